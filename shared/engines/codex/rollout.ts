// The file of a Codex thread (its rollout), carried from machine to machine: packed with the gateway's data about the
// thread, compressed, and restored to the path where Codex expects it. The port EngineState stores it.
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { constants as zlib, zstdCompress, zstdDecompress } from 'node:zlib';
import { z } from 'zod';
import { makeDirectory } from '../../make-directory.ts';
import type { Message } from '../engine.ts';
import type { KnownThread } from './server/app-server.ts';
import { CODEX_HOME } from './server/config-toml.ts';

/** A larger rollout is not saved; another machine then starts from the messages of the conversation. */
const ROLLOUT_BYTES_MAX = 48 << 20;
const NEWLINE = 0x0a;
/**
 * The response of the turn waits for the compression. zstd at level 1 is smaller than gzip at its best level and takes
 * a fifth of the time.
 */
const COMPRESSION = { params: { [zlib.ZSTD_c_compressionLevel]: 1 } };

const Head = z.object({
  v: z.literal(1),
  thread: z.string().regex(/^[\w-]{1,64}$/),
  path: z.string().regex(/^sessions\/\d{4}\/\d\d\/\d\d\/rollout-[\w.-]{1,128}\.jsonl$/),
  seq: z.int().min(0),
  hash: z.string(),
  instructions: z.string(),
  tools: z.string(),
});

export interface PackedThread {
  readonly known: KnownThread;
  /** Below CODEX_HOME. */
  readonly path: string;
  readonly rollout: Buffer;
}

/** Undefined if the file does not exist or is too large to be saved. */
export async function packThread(home: string, known: KnownThread): Promise<Buffer | undefined> {
  const { threadId: thread, file, seq, hash, instructions, tools } = known;
  const { data: head } = Head.safeParse({ v: 1, thread, path: toRelative(file), seq, hash, instructions, tools });
  if (head === undefined) return undefined;
  const rollout = await readBounded(join(home, head.path));
  if (rollout === undefined) return undefined;
  return promisify(zstdCompress)(Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), rollout]), COMPRESSION);
}

/** Throws when the bytes are not a packed thread. */
export async function unpackThread(bytes: Uint8Array): Promise<PackedThread> {
  const whole = await promisify(zstdDecompress)(bytes, { maxOutputLength: ROLLOUT_BYTES_MAX + 4096 });
  const end = whole.indexOf(NEWLINE);
  const { thread, path, ...rest } = Head.parse(JSON.parse(whole.toString('utf8', 0, end)));
  const known = {
    threadId: thread,
    file: `${CODEX_HOME}/${path}`,
    seq: rest.seq,
    hash: rest.hash,
    instructions: rest.instructions,
    tools: rest.tools,
  };
  return { known, path, rollout: whole.subarray(end + 1) };
}

/** Writes the rollout to the path where `thread/resume` expects it. */
export async function restoreThread(home: string, { path, rollout }: PackedThread): Promise<void> {
  const file = join(home, path);
  await makeDirectory(dirname(file));
  // Codex may run under another uid than the gateway and must be able to append here.
  for (let directory = dirname(file); directory.length > home.length; directory = dirname(directory)) {
    await chmod(directory, 0o777).catch(() => undefined);
  }
  await writeFile(file, rollout, { flag: 'wx', mode: 0o666 });
  await chmod(file, 0o666);
}

/** Identifies the role and text of a message. */
export function hashMessage({ role, content }: Message): string {
  return createHash('sha256').update(`${role}\n`).update(content).digest('base64url');
}

function toRelative(file: string | undefined): string | undefined {
  return file?.startsWith(`${CODEX_HOME}/`) ? file.slice(CODEX_HOME.length + 1) : undefined;
}

async function readBounded(file: string): Promise<Buffer | undefined> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => undefined);
  if (handle === undefined) return undefined;
  try {
    const { size } = await handle.stat();
    return size > ROLLOUT_BYTES_MAX ? undefined : await handle.readFile();
  } finally {
    await handle.close();
  }
}
