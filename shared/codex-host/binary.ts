// Finds the Codex program: the native executable of the platform's package, not the Node launcher that starts it.
import { accessSync, constants, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/**
 * The Codex version of package.json, whose protocol engines/codex/protocol describes. Before another one is used, check
 * how it starts commands (engines/codex/relay/requested-commands.ts depends on it), and that its models can still have
 * the mode `direct` and the instructions that go with it (model-catalog.ts).
 */
export const CODEX_VERSION = '0.169.0';

export interface CodexBinary {
  readonly file: string;
  /** The directory of the program and of the programs that come with it (ripgrep, its own bwrap). */
  readonly directory: string;
}

const INSTALL_COMMAND = `npm install --no-save @openai/codex@${CODEX_VERSION}`;
/** How to install Codex, for error messages. */
export const INSTALL_HINT = `${INSTALL_COMMAND}, or set CODEX_BIN to its native program`;

/**
 * Finds the native program. `named` is the configured path (`.../vendor/<target>/bin/codex`); without it, the package
 * `@openai/codex` is resolved from the module `from`, by default this one. Returns undefined if neither is an
 * executable file.
 */
export function findCodex(named: string | undefined, from: string = import.meta.url): CodexBinary | undefined {
  const file = named ?? installed(from);
  if (file === undefined || !isExecutable(file)) return undefined;
  return { file, directory: dirname(dirname(file)) };
}

function installed(from: string): string | undefined {
  try {
    const launcher = createRequire(from).resolve('@openai/codex/package.json');
    // The package is a dependency of the launcher, so it may be resolvable only from there.
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
