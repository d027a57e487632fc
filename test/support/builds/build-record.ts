// Records from which sources a build was made, so that a run repeats it only when one of them has changed.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';

const ROOT = resolve(import.meta.dirname, '../../..');
const KEPT_MS = 3_600_000;

/** The time of the last change of each file, in milliseconds. */
const Inputs = z.record(z.string(), z.number());

/** Whether the build was made by `program`, a path in this checkout, from the current sources. */
export async function isCurrent(record: string, program: string): Promise<boolean> {
  const text = await readFile(record, 'utf8').catch(() => undefined);
  if (text === undefined) return false;
  const inputs = Inputs.parse(JSON.parse(text));
  // False for a build that was copied from another checkout.
  if (!(program in inputs)) return false;
  const changed = Object.entries(inputs).map(async ([path, changedMs]) => (await changedAt(path)) !== changedMs);
  return !(await Promise.all(changed)).includes(true);
}

/**
 * `files`: names of a metafile of esbuild, and absolute paths. Writes nothing if one has changed since `startedMs`,
 * because the build may contain its old text.
 */
export async function writeRecord(record: string, files: readonly string[], startedMs: number): Promise<void> {
  // Names of other namespaces than files begin like a protocol.
  const paths = files.filter((name) => !/^\w{2,}:/.test(name)).map((name) => resolve(ROOT, name));
  const inputs = await Promise.all(paths.map(async (path) => [path, await changedAt(path)] as const));
  if (inputs.some(([, changedMs]) => changedMs >= startedMs)) return;
  await replaceFile(record, Buffer.from(JSON.stringify(Object.fromEntries(inputs))));
}

const changedAt = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.mtimeMs ?? 0;

/**
 * Replaces a file in one step, because a program that starts meanwhile must read a whole one. An equal file is not
 * written.
 */
export async function replaceFile(path: string, contents: Uint8Array): Promise<void> {
  const before = await readFile(path).catch(() => undefined);
  if (before?.equals(contents) === true) return;
  await mkdir(dirname(path), { recursive: true });
  const fresh = `${path}.${randomUUID()}`;
  await writeFile(fresh, contents);
  await rename(fresh, path);
}

/** Removes what earlier builds left in a directory, except recent files, which another run may still use. */
export async function removeOld(directory: string, current: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (current.has(path) || Date.now() - (await stat(path)).mtimeMs <= KEPT_MS) continue;
    await rm(path, { recursive: true, force: true });
  }
}
