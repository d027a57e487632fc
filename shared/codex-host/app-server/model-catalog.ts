// The catalogue of models of an app-server: that of Codex, in which every model has its tools directly.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { z } from 'zod';
import { shorten } from '../../messages/text.ts';

/** As long as an app-server may take to start: the first read of a large program can be slow. */
const PROGRAM_MS = 30_000;
const CATALOG_BYTES_MAX = 16 << 20;
const REASON_CHARS_MAX = 2_000;
/** A line of a model's instructions about the tool `exec`; not one about `exec_command`. */
const EXEC_LINE = /^.*\bfunctions\.exec\b.*\n?/gm;

const run = promisify(execFile);
const Catalog = z.looseObject({ models: z.array(z.looseObject({ slug: z.string() })).min(1) });

/**
 * Returns the text of the catalogue, made of the one that the program `file` contains. `home`: an empty directory,
 * which the program uses as CODEX_HOME. Throws if the program prints no catalogue.
 */
export async function makeModelCatalog(file: string, home: string): Promise<string> {
  try {
    const { stdout } = await run(file, ['debug', 'models', '--bundled'], {
      cwd: home,
      // Below TMPDIR, Codex does not write programs.
      env: { CODEX_HOME: home, TMPDIR: home },
      timeout: PROGRAM_MS,
      killSignal: 'SIGKILL',
      maxBuffer: CATALOG_BYTES_MAX,
    });
    return JSON.stringify(Catalog.parse(JSON.parse(stdout, giveToolsDirectly)));
  } catch (error) {
    // The error of execFile holds the whole output.
    throw new Error(`codex prints no models: ${shorten(String(error), REASON_CHARS_MAX)}`);
  }
}

/**
 * In Codex's own catalogue, most models have the mode `code_mode_only`: their only tool for work is `exec`, which runs
 * a script that calls the other tools. The gateway does not run such scripts, because a script can go on after its
 * turn, and requested-commands.ts cannot find the commands that it starts. In the mode `direct`, the model itself calls
 * the other tools. The instructions about `exec` are removed with it.
 */
function giveToolsDirectly(key: string, value: unknown): unknown {
  if (key === 'tool_mode') return 'direct';
  return typeof value === 'string' ? value.replace(EXEC_LINE, '') : value;
}
