// Installs the packages that only tests and benches use (test/package.json) when they are missing or differ from
// test/package-lock.json. They are kept out of the root's package.json because they are larger than all that the
// gateway itself needs.
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const DIRECTORY = resolve(import.meta.dirname, '..');
const LOCKFILE = join(DIRECTORY, 'package-lock.json');
/** A copy of the lockfile that was installed last. */
const INSTALLED = join(DIRECTORY, 'node_modules/.installed-lock.json');

if (read(INSTALLED) !== read(LOCKFILE)) {
  process.stdout.write('installing the packages of test/package.json (about 660 MB, once)\n');
  // `npm` is a script of the shell on every platform, so it needs one.
  const { status } = spawnSync('npm ci --no-audit --no-fund --loglevel=error', {
    cwd: DIRECTORY,
    shell: true,
    stdio: 'inherit',
  });
  if (status === 0) copyFileSync(LOCKFILE, INSTALLED);
  else process.stderr.write('npm ci failed in test/: run it there to see why\n');
  process.exitCode = status ?? 1;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
