// Where the Codex program is: the native file of the platform's package, never the Node launcher in front of it.
import { accessSync, constants, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CODEX_VERSION } from './version.ts';

export interface CodexBinary {
  readonly file: string;
  /** The directory that holds the program and what it brings along (ripgrep, its own bwrap). */
  readonly directory: string;
}

/** How to get it, for errors. */
export const INSTALL_HINT = `npm install @openai/codex@${CODEX_VERSION}, or set CODEX_BIN to its native program`;

/**
 * `named`: the configured path of the program (`.../vendor/<target>/bin/codex`); else the installed package `@openai/codex` is looked for
 * from here. Undefined when there is none.
 */
export function findCodex(named: string | undefined): CodexBinary | undefined {
  const file = named ?? installed();
  if (file === undefined || !isExecutable(file)) return undefined;
  return { file, directory: dirname(dirname(file)) };
}

function installed(): string | undefined {
  try {
    const launcher = createRequire(import.meta.url).resolve('@openai/codex/package.json');
    // The launcher's own dependency: not always visible from here.
    const platform = createRequire(launcher).resolve(`@openai/codex-${process.platform}-${process.arch}/package.json`);
    const vendor = join(dirname(platform), 'vendor');
    const target = readdirSync(vendor).at(0);
    return target === undefined ? undefined : join(vendor, target, 'bin/codex');
  } catch {
    return undefined;
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
