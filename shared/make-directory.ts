// Makes a directory and those above it. Node's recursive mkdir repeats for ever where a parent exists but nothing can
// be made in it (ENOENT below /proc, a stale mount): here every directory is tried at most twice, so it ends with an
// error.
import { mkdirSync, statSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** `mode` holds for every directory made. Throws the error of mkdir(2), ENOTDIR where something else has the name. */
export async function makeDirectory(path: string, mode?: number): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      await mkdir(at, mode);
      break;
    } catch (error) {
      if (await isThere(error, () => stat(at))) break;
      climb(error, at, missing);
    }
  }
  for (const at of missing.reverse()) {
    try {
      await mkdir(at, mode);
    } catch (error) {
      // Another process has made it meanwhile.
      if (!(await isThere(error, () => stat(at)))) throw error;
    }
  }
}

/** The same, for what is opened synchronously. */
export function makeDirectorySync(path: string, mode?: number): void {
  const missing: string[] = [];
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      mkdirSync(at, mode);
      break;
    } catch (error) {
      if (codeOf(error) === 'EEXIST' && statSync(at).isDirectory()) break;
      climb(error, at, missing);
    }
  }
  for (const at of missing.reverse()) {
    try {
      mkdirSync(at, mode);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || !statSync(at).isDirectory()) throw error;
    }
  }
}

/** Only a missing parent is worth a step up. */
function climb(error: unknown, at: string, missing: string[]): void {
  if (codeOf(error) !== 'ENOENT' || at === dirname(at)) throw error;
  missing.push(at);
}

async function isThere(error: unknown, look: () => Promise<{ isDirectory(): boolean }>): Promise<boolean> {
  return codeOf(error) === 'EEXIST' && (await look()).isDirectory();
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
