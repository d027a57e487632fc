// Transfers the file of a Codex thread (its rollout) between machines: it is packed with the gateway's data about the
// thread, compressed, stored through the port EngineState, and restored to the path where Codex expects it.
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants as zlib, zstdCompress, zstdDecompress } from 'node:zlib';
import { z } from 'zod';
import { CODEX_HOME, type CodexSession, ROLLOUT_BYTES_MAX, RolloutPath } from '../../../codex-host/codex-host.ts';
import type { Message } from '../../engine.ts';
import type { KnownThread } from './known-thread.ts';

const NEWLINE = 0x0a;
/**
 * zstd at level 1, because the response of the turn waits for the compression: the result is smaller than with gzip at
 * its best level, and takes a fifth of the time.
 */
const COMPRESSION = { params: { [zlib.ZSTD_c_compressionLevel]: 1 } };

const Head = z.object({
  v: z.literal(1),
  thread: z.string().regex(/^[\w-]{1,64}$/),
  path: RolloutPath,
  seq: z.int().min(0),
  hash: z.string(),
  instructions: z.string(),
  tools: z.string(),
  /** Versions before 1.3 did not write it. */
  models: z.array(z.string().max(200)).max(8).optional(),
  hasEffort: z.boolean().optional(),
  branch: z.string().max(128).optional(),
});

const TurnContext = z.object({ payload: z.object({ model: z.string() }) });

export interface PackedThread {
  readonly known: KnownThread;
  /** Path below CODEX_HOME. */
  readonly path: string;
  readonly rollout: Buffer;
}

/** Returns undefined if there is no file or it is too large; then the next machine starts from the messages. */
export async function packThread(
  session: Pick<CodexSession, 'readRollout'>,
  known: KnownThread,
): Promise<Buffer | undefined> {
  const { threadId: thread, file, ...rest } = known;
  const { data: head } = Head.safeParse({ v: 1, thread, path: toRelative(file), ...rest });
  if (head === undefined) return undefined;
  const rollout = await session.readRollout(head.path);
  if (rollout === undefined) return undefined;
  return promisify(zstdCompress)(Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), rollout]), COMPRESSION);
}

/** Throws if the bytes are not a packed thread. */
export async function unpackThread(bytes: Uint8Array): Promise<PackedThread> {
  const whole = await promisify(zstdDecompress)(bytes, { maxOutputLength: ROLLOUT_BYTES_MAX + 4096 });
  const end = whole.indexOf(NEWLINE);
  const { thread, path, ...rest } = Head.parse(JSON.parse(whole.toString('utf8', 0, end)));
  const rollout = whole.subarray(end + 1);
  const { seq, hash, instructions, tools, models = lastModelIn(rollout), hasEffort, branch } = rest;
  const file = `${CODEX_HOME}/${path}`;
  const known = { threadId: thread, file, seq, hash, branch, instructions, tools, models, hasEffort };
  return { known, path, rollout };
}

/** Returns the model of the last turn from the rollout. */
function lastModelIn(rollout: Buffer): readonly string[] {
  const at = rollout.lastIndexOf('"type":"turn_context"');
  const start = rollout.lastIndexOf(NEWLINE, at) + 1;
  const end = rollout.indexOf(NEWLINE, at);
  if (at === -1 || end === -1) return [];
  const { data } = TurnContext.safeParse(JSON.parse(rollout.toString('utf8', start, end)));
  return data === undefined ? [] : [data.payload.model];
}

/** Identifies the role and text of a message. */
export function hashMessage({ role, content }: Message): string {
  return createHash('sha256').update(`${role}\n`).update(content).digest('base64url');
}

function toRelative(file: string | undefined): string | undefined {
  return file?.startsWith(`${CODEX_HOME}/`) ? file.slice(CODEX_HOME.length + 1) : undefined;
}
