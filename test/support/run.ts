// `node functions/run.js test/support/run.ts PROGRAM [ARGUMENT ...]` runs a program that needs the packages of
// test/package.json: a file of this repository, or a command of one of these packages. They are installed first when
// they are missing or differ from test/package-lock.json. They are kept out of the root's package.json because they are
// larger than all that the gateway itself needs.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const DIRECTORY = resolve(import.meta.dirname, '..');
const LOCKFILE = join(DIRECTORY, 'package-lock.json');
/** A copy of the lockfile that was installed last. */
const INSTALLED = join(DIRECTORY, 'node_modules/.installed-lock.json');

if (read(INSTALLED) === read(LOCKFILE) || install()) {
  const name = process.argv[2] ?? '';
  const command = join(DIRECTORY, 'node_modules/.bin', name);
  const file = existsSync(command) ? realpathSync(command) : resolve(DIRECTORY, '..', name);
  // As if Node had been started with the file.
  process.argv.splice(1, 2, file);
  await import(pathToFileURL(file).href);
}

/** Returns whether it succeeded; if not, sets the exit code. */
function install(): boolean {
  process.stderr.write('installing the packages of test/package.json (about 770 MB, once)\n');
  // `npm` is a script of the shell on every platform, so it needs one.
  const { status } = spawnSync('npm ci --no-audit --no-fund --loglevel=error', {
    cwd: DIRECTORY,
    shell: true,
    stdio: 'inherit',
  });
  if (status === 0) copyFileSync(LOCKFILE, INSTALLED);
  else process.stderr.write('npm ci failed in test/: run it there to see why\n');
  process.exitCode = status ?? 1;
  return status === 0;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
