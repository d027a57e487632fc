// Copies of the empty databases that an app-server creates at its start. Creating them takes about sixty migrations,
// each written to disk. So one app-server without an owner creates them once, and the others start with copies.
import { chmod, copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runPrefix } from '../../sandbox/workspace/run-mark.ts';
import type { AppServerOptions, startAppServer } from './app-server.ts';
import { PREFIXES } from './directories.ts';

export interface Template {
  /** Copies the databases into the home of an app-server before its start. */
  copyTo(home: string): Promise<void>;
  close(): Promise<void>;
}

/** The id of no owner; the self-test of the sandbox uses it, too. */
const NO_OWNER = '';
/** The names of a database and of its write-ahead log. */
const DATABASE = /^\w{1,64}\.sqlite(-wal)?$/;

/** Throws the errors of `startAppServer`. */
export async function makeTemplate(
  start: typeof startAppServer,
  options: Omit<AppServerOptions, 'owner'>,
): Promise<Template> {
  let kept: string | undefined;
  const made = await start({
    ...options,
    owner: NO_OWNER,
    async keep(home) {
      const directory = await mkdtemp(join(options.directory, runPrefix(PREFIXES.template)));
      await copyDatabases(home, directory);
      kept = directory;
    },
  });
  await made.end();
  const directory = kept;
  if (directory === undefined) throw new Error('codex created no databases');
  return {
    copyTo: (home) => copyDatabases(directory, home),
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

async function copyDatabases(from: string, to: string): Promise<void> {
  const entries = await readdir(from, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile() && DATABASE.test(entry.name)).map(({ name }) => name);
  await Promise.all(
    names.map(async (name) => {
      await copyFile(join(from, name), join(to, name));
      // The app-server may have another uid than the gateway.
      await chmod(join(to, name), 0o666);
    }),
  );
}
