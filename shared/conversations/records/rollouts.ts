// What an engine keeps between the turns of a conversation (EngineState), in documents: a head and parts, written and
// erased as one.
import type { EngineState } from '../../engines/engine.ts';
import type { Ref, Store, Write } from '../../store/store.ts';

/** Characters of base64 in one document; Firestore takes 1 MiB. */
const PART_CHARS = 900_000;
/** Documents of one conversation, which is also what one commit takes (10 MiB). More is not kept. */
const PARTS_MAX = 10;

/**
 * `rollouts/<conversation id>-<n>`: one part. All parts of one save carry the same number and are written in one
 * commit. No TTL.
 */
interface RolloutDocument {
  /** Of the save; parts of different saves are not put together. */
  readonly saved_at_ms: number;
  /** How many parts there are. */
  readonly parts: number;
  /** Base64. */
  readonly data: string;
}

export function createRollouts(store: Store, clock: { now(): number }): EngineState {
  return {
    async load(conversationId, { signal }) {
      const [head] = await store.get<RolloutDocument>([rolloutRef(conversationId, 0)], { signal });
      const first = head?.data;
      if (first === undefined) return undefined;
      const refs = Array.from({ length: first.parts - 1 }, (_, index) => rolloutRef(conversationId, index + 1));
      const rest = refs.length === 0 ? [] : await store.get<RolloutDocument>(refs, { signal });
      const parts = [first, ...rest.map(({ data }) => data)];
      // Replaced between the two reads: then another instance runs this conversation, and what it saves is not for this
      // turn.
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
        return { ref: rolloutRef(conversationId, index), data: { saved_at_ms, parts, data } satisfies RolloutDocument };
      });
      await store.commit(writes, { signal });
      return true;
    },
  };
}

/** Erases whatever was ever saved: a conversation that once had more parts than now leaves none behind. */
export async function eraseRollouts(store: Store, conversationId: string): Promise<void> {
  await store.commit(
    Array.from({ length: PARTS_MAX }, (_, index): Write => ({ ref: rolloutRef(conversationId, index), delete: true })),
  );
}

function rolloutRef(conversationId: string, part: number): Ref {
  return { collection: 'rollouts', id: `${conversationId}-${part}` };
}
