// The state that an engine stores between the turns of a conversation (EngineState), in documents: a head and parts,
// written and erased together.
import { z } from 'zod';
import type { EngineState } from '../../engines/engine.ts';
import { defineDocument } from '../../store/define-document.ts';
import type { Ref, Store, Write } from '../../store/store.ts';

/** Characters of base64 in one document; the limit of Firestore is 1 MiB. */
const PART_CHARS = 900_000;
/** Documents of one conversation; together they fit into one commit (10 MiB). A larger state is not stored. */
const PARTS_MAX = 10;

/** One part. All parts of one save are written in one commit, and replace those of the save before as a whole. */
export const Rollouts = defineDocument({
  collection: 'rollouts',
  schema: z.object({
    /** Time of the save; parts of different saves are never combined. */
    saved_at_ms: z.number(),
    /** Number of parts of the save. */
    parts: z.number(),
    /** Base64. */
    data: z.string(),
  }),
  owned: 'session',
  id: 'conversation id and number',
  holds: 'Codex’s own record of a thread, compressed',
  writtenBy: 'Codex turns',
  kept: 'as long as its conversation',
});

export function createRollouts(store: Store, clock: { now(): number }): EngineState {
  return {
    async load(conversationId, { signal }) {
      const [head] = await store.get([rolloutRef(conversationId, 0)], { signal });
      const first = Rollouts.read(head);
      if (first === undefined) return undefined;
      const refs = Array.from({ length: first.parts - 1 }, (_, index) => rolloutRef(conversationId, index + 1));
      const rest = refs.length === 0 ? [] : await store.get(refs, { signal });
      const parts = [first, ...rest.map((snapshot) => Rollouts.read(snapshot))];
      // Replaced between the two reads: another instance runs this conversation, and its state does not fit this turn.
      if (parts.some((part) => part?.saved_at_ms !== first.saved_at_ms)) return undefined;
      return Buffer.from(parts.map((part) => part?.data ?? '').join(''), 'base64');
    },

    async save(conversationId, bytes, { signal }) {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
      const parts = Math.max(1, Math.ceil(text.length / PART_CHARS));
      if (parts > PARTS_MAX) {
        await eraseRollouts(store, conversationId);
        return false;
      }
      const saved_at_ms = clock.now();
      const writes = Array.from({ length: parts }, (_, index): Write => {
        const data = text.slice(index * PART_CHARS, (index + 1) * PART_CHARS);
        return Rollouts.write(rolloutRef(conversationId, index), { saved_at_ms, parts, data });
      });
      await store.commit(writes, { signal });
      return true;
    },
  };
}

/** One part of the stored state, as it is stored; undefined behind the last one. */
export async function readRolloutPart(store: Store, conversationId: string, part: number) {
  const [snapshot] = part < PARTS_MAX ? await store.get([rolloutRef(conversationId, part)]) : [];
  const found = Rollouts.read(snapshot);
  return found !== undefined && part < found.parts ? found : undefined;
}

/** Erases all parts, also those of an earlier and longer state. */
export async function eraseRollouts(store: Store, conversationId: string): Promise<void> {
  await store.commit(
    Array.from({ length: PARTS_MAX }, (_, index): Write => ({ ref: rolloutRef(conversationId, index), delete: true })),
  );
}

function rolloutRef(conversationId: string, part: number): Ref {
  return Rollouts.ref(`${conversationId}-${part}`);
}
