// Creates a directory and its parents. Node's recursive mkdir loops for ever if a parent exists but mkdir in it fails
// with ENOENT (/proc, a stale mount). Here every directory is tried at most twice, so the call ends with an error.
import { mkdirSync, statSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { codeOf } from './errors.ts';

/**
 * `mode` is the mode of every created directory. Throws the error of mkdir(2), ENOTDIR if the path exists and is no
 * directory.
 */
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
      // Another process may have created it meanwhile.
      if (!(await isThere(error, () => stat(at)))) throw error;
    }
  }
}

/** Synchronous version of `makeDirectory`. */
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

/** Continues with the parent only if it is missing; rethrows any other error. */
function climb(error: unknown, at: string, missing: string[]): void {
  if (codeOf(error) !== 'ENOENT' || at === dirname(at)) throw error;
  missing.push(at);
}

async function isThere(error: unknown, look: () => Promise<{ isDirectory(): boolean }>): Promise<boolean> {
  return codeOf(error) === 'EEXIST' && (await look()).isDirectory();
}
