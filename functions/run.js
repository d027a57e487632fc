// What the npm scripts start: `node functions/run.js [OPTION OF NODE ...] PROGRAM [ARGUMENT ...]`. Plain JavaScript for
// every Node since 18. Where the running Node is too old for the program, this installs the Node of functions/node,
// once, and runs the program with that.
import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { isatty } from 'node:tty';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** Programs that end with their parent. Any other is a file, named by its path in the repository. */
const PROGRAMS = {
  local: 'functions/local/main.ts',
  sandbox: 'functions/sandbox/main.ts',
  cli: 'functions/cli/main.ts',
  smoke: 'functions/cli/smoke/main.ts',
};
/** `cli keys` is not part of the published command line, which contains no Google SDK. */
const KEYS = 'functions/cli/keys/main.ts';
const PARENT_CHECK_MS = 250;
const NPM_ARGS = ['ci', '--include=optional', '--ignore-scripts', '--no-audit'];
const SELF = fileURLToPath(import.meta.url);
const ROOT = resolve(SELF, '../..');
const NODE_FOLDER = join(ROOT, 'functions/node');
const NODE_BIN = join(NODE_FOLDER, 'node_modules/.bin');

const given = process.argv.slice(2);
const place = given.findIndex((argument) => !argument.startsWith('-'));
const options = given.slice(0, Math.max(place, 0));
const [program, ...rest] = place === -1 ? [] : given.slice(place);

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
// TypeScript needs 22.18. Tests need the deployed line: 22 warns of SQLite, and has no proxies before 22.21.
const [majorNeeded, minorNeeded] = program?.startsWith('test/') ? [24, 0] : [22, 18];
const isNew = major > majorNeeded || (major === majorNeeded && minor >= minorNeeded);

if (program === undefined) {
  throw new Error(`a file of the repository is needed, or one of ${Object.keys(PROGRAMS).join(', ')}`);
} else if (isNew && options.length === 0) {
  const file = join(ROOT, PROGRAMS[program] ?? program);
  const isKeys = program === 'cli' && rest[0] === 'keys';
  // As if Node had been started with the file.
  process.argv.splice(1, 2, file);
  if (program in PROGRAMS) followParent();
  await import(pathToFileURL(isKeys ? join(ROOT, KEYS) : file).href);
} else {
  await runInChild();
}

/** Runs this file again in a process of its own: with options of Node, or with the Node of functions/node. */
async function runInChild() {
  let child;
  /** Resolves to the exit code, or to undefined if the file cannot be executed. */
  const run = (file, args, settings) => {
    child = spawn(file, args, { stdio: 'inherit', ...settings });
    return new Promise((done) => {
      child.once('error', () => done(undefined));
      child.once('exit', (code, signal) => done(code ?? 128 + constants.signals[signal]));
    });
  };
  process.on('SIGTERM', (signal) => child.kill(signal));
  // A terminal sends SIGINT to every process of its foreground group, so the child has received it.
  process.on('SIGINT', (signal) => isatty(0) || child.kill(signal));
  onParentEnd(() => child.kill('SIGTERM'));

  const args = [...options, SELF, program, ...rest];
  if (isNew) {
    process.exitCode = await run(process.execPath, args);
    return;
  }
  if (!isInstalled()) {
    process.stderr.write(
      `Node ${process.versions.node} cannot run this: installing Node 24 in functions/node (60 MB, once)\n`,
    );
    await install((cwd) => run('npm', NPM_ARGS, { cwd, stdio: 'ignore' }));
  }
  // Programs that the child starts by name, or by `#!/usr/bin/env node`, need the same Node.
  const env = { ...process.env, PATH: `${NODE_BIN}${delimiter}${process.env.PATH ?? ''}` };
  const code = isInstalled() ? await run(join(NODE_BIN, 'node'), args, { env }) : undefined;
  if (code === undefined) {
    process.stderr.write(
      'Node 24 could not be installed: install it from https://nodejs.org, or run npm ci in functions/node to see why\n',
    );
  }
  process.exitCode = code ?? 1;
}

/**
 * Installs Node in a folder of its own and then moves it to its place, because several scripts may start at the same
 * time: the first one that is done installs for all. A failure shows in `isInstalled`.
 */
async function install(runNpm) {
  let scratch;
  try {
    scratch = mkdtempSync(join(NODE_FOLDER, '.installing-'));
    for (const file of ['package.json', 'package-lock.json'])
      copyFileSync(join(NODE_FOLDER, file), join(scratch, file));
    await runNpm(scratch);
    const place = join(NODE_FOLDER, 'node_modules');
    if (isInstalled()) return;
    rmSync(place, { recursive: true, force: true });
    renameSync(join(scratch, 'node_modules'), place);
  } catch {
    // The folder cannot be written, npm has installed nothing, or another script was faster.
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  }
}

/** Whether the folder has what its lockfile names for this platform; npm writes its own record last. */
function isInstalled() {
  const [locked, installed] = ['package-lock.json', 'node_modules/.package-lock.json'].map(readPackages);
  const paths = Object.keys(installed);
  return paths.length > 0 && paths.every((path) => locked[path]?.integrity === installed[path].integrity);
}

/** The packages of a lockfile in functions/node; none if there is no such file. */
function readPackages(lockfile) {
  try {
    return JSON.parse(readFileSync(join(NODE_FOLDER, lockfile), 'utf8')).packages;
  } catch {
    return {};
  }
}

/**
 * npm sends a signal to the shell that it started this program with, and a shell such as dash ends without passing it
 * on. So the end of the parent counts as SIGTERM, once; after a signal of its own the program is ending already.
 */
function followParent() {
  const stop = onParentEnd(() => process.kill(process.pid, 'SIGTERM'));
  for (const [signal, code] of Object.entries({ SIGTERM: 143, SIGINT: 130 })) {
    process.once(signal, () => {
      stop();
      // The program has not come as far as to listen itself.
      if (process.listenerCount(signal) === 0) process.exit(code);
    });
  }
}

/** Calls `end` once when the parent has ended; returns a function that stops the check. */
function onParentEnd(end) {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    end();
  }, PARENT_CHECK_MS).unref();
  return () => clearInterval(timer);
}
