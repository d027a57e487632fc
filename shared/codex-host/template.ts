// The empty databases that an app-server creates at its start, by some sixty migrations that are each written to disk.
// One app-server that belongs to no owner creates them once; the others get copies of the files.
import { chmod, copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runPrefix } from '../sandbox/process/run-mark.ts';
import type { AppServerOptions, startAppServer } from './app-server.ts';

export interface Template {
  /** Puts the databases into the home of an app-server that has not been started. */
  copyTo(home: string): Promise<void>;
  close(): Promise<void>;
}

/** Names of directories in the one of the app-servers; what a process that was killed leaves is removed by the next. */
export const PREFIXES = { home: 'home', template: 'template' };

/** The id of no owner; the self-test of the sandbox uses it, too. */
const NO_OWNER = '';
/** A database and its write-ahead log. */
const DATABASE = /^\w{1,64}\.sqlite(-wal)?$/;

/** Throws what `startAppServer` throws. */
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
  if (directory === undefined) throw new Error('codex left no databases');
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
