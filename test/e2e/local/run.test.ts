// functions/run.js, with which every npm script starts, runs a program on a new Node, and on an old one installs a new
// one first. It runs in a copy, with a program and an `npm` of the test, on Nodes that report other versions.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ROOT } from '../../support/fixtures/gateway/local-gateway.ts';

const scratch = mkdtempSync(join(tmpdir(), 'run-'));
const folder = join(scratch, 'functions/node');
const installed = join(folder, 'node_modules');
const calls = join(scratch, 'calls');
const LOCKFILE = 'functions/node/package-lock.json';
const INSTALLING = 'Node 20.20.2 cannot run this: installing Node 24 in functions/node (60 MB, once)\n';
const FAILED =
  'Node 24 could not be installed: install it from https://nodejs.org, or run npm ci in functions/node to see why\n';

/** Only the process that has this option takes itself for that version; its children do not. */
const asVersion = (version: string): string =>
  `--import=data:text/javascript,Object.defineProperty(process,'versions',{value:{node:'${version}'}})`;
const OLD = asVersion('20.20.2');

/** Prints how it was started. A signal ends it with the code of its first argument; so does the end of its input. */
const PROGRAM = `
import { execFileSync } from 'node:child_process';
const code: number = Number(process.argv[2]);
const named = execFileSync('node', ['-p', 'process.execPath'], { encoding: 'utf8' }).trim();
const { argv, execArgv, execPath } = process;
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => {
  console.log(signal);
  process.exit(code);
});
console.log(JSON.stringify({ main: argv[1] === import.meta.filename, args: argv.slice(2), execArgv, named, execPath }));
process.stdin.on('data', (data) => process.stdout.write(data));
process.stdin.on('end', () => argv[3] === 'stay' || process.exit(code));
setInterval(() => {}, 60_000);
`;

/**
 * Installs a link to NODE, for a second if SLOW. It fails where NODE is empty and, as the real one can, in a folder in
 * which another one installs.
 */
const NPM = `#!/bin/sh
echo "$PWD $*" >> ${calls}
echo 'a line of npm'; echo 'npm error' >&2
[ -n "$NODE" ] && mkdir busy || exit 1
[ -z "$SLOW" ] || sleep 1
mkdir -p node_modules/.bin && ln -sf "$NODE" node_modules/.bin/node && cp package-lock.json node_modules/.package-lock.json
rmdir busy
`;

mkdirSync(folder, { recursive: true });
for (const name of ['bin', 'test']) mkdirSync(join(scratch, name));
writeFileSync(join(scratch, 'package.json'), '{"type": "module"}');
for (const file of ['program.ts', 'test/program.ts']) writeFileSync(join(scratch, file), PROGRAM);
writeFileSync(join(scratch, 'bin/npm'), NPM, { mode: 0o755 });
cpSync(join(ROOT, 'functions/run.js'), join(scratch, 'functions/run.js'));
cpSync(join(ROOT, 'functions/node/package.json'), join(folder, 'package.json'));
afterAll(() => rmSync(scratch, { recursive: true }));

const running: ChildProcess[] = [];
beforeEach(() => {
  rmSync(installed, { recursive: true, force: true });
  writeFileSync(calls, '');
  cpSync(join(ROOT, LOCKFILE), join(scratch, LOCKFILE));
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

interface Options {
  readonly node?: string;
  readonly slow?: boolean;
  readonly command?: readonly string[];
}

function start(args: readonly string[], { node = process.execPath, slow = false, command = [] }: Options = {}) {
  const [file = '', ...rest] = [...command, process.execPath, ...args];
  const child = spawn(file, rest, {
    cwd: scratch,
    env: {
      PATH: `${join(scratch, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`,
      NODE: node,
      SLOW: slow ? '1' : '',
    },
    stdio: 'pipe',
  });
  running.push(child);
  return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator](), stderr: text(child.stderr) };
}

/** Until its end, with the input `in`. */
async function run(args: readonly string[], options?: Options) {
  const { child, lines, stderr } = start(args, options);
  child.stdin.end('in\n');
  const exited = once(child, 'exit');
  const stdout: string[] = [];
  for await (const line of { [Symbol.asyncIterator]: () => lines }) stdout.push(line);
  const [code] = await exited;
  return { code, stdout, stderr: await stderr, installs: readFileSync(calls, 'utf8').split('\n').slice(0, -1) };
}

const Started = z.object({
  main: z.boolean(),
  args: z.array(z.string()),
  execArgv: z.array(z.string()),
  named: z.string(),
  execPath: z.string(),
});
const started = (line = ''): z.output<typeof Started> => Started.parse(JSON.parse(line));

describe('a Node that runs TypeScript', () => {
  it('a new Node runs the program itself, as if started with the file, and installs nothing', async () => {
    const { code, stdout, stderr, installs } = await run(['functions/run.js', 'program.ts', '3', '--flag']);
    expect({ code, stderr, installs, rest: stdout.slice(1) }).toEqual({
      code: 3,
      stderr: '',
      installs: [],
      rest: ['in'],
    });
    expect(started(stdout[0])).toMatchObject({ main: true, args: ['3', '--flag'], execArgv: [] });
  });

  it('options of Node are passed on, and the exit code back', async () => {
    const { code, stdout, installs } = await run(['functions/run.js', '--no-warnings', 'program.ts', '3']);
    expect({ code, installs }).toEqual({ code: 3, installs: [] });
    expect(started(stdout[0])).toMatchObject({ args: ['3'], execArgv: ['--no-warnings'] });
  });
});

describe('a Node of the line before the deployed one', () => {
  it.each(['22.18.0', '23.6.0'])('Node %s runs programs itself, but not tests', async (version) => {
    const own = await run([asVersion(version), 'functions/run.js', 'program.ts', '3']);
    expect(own).toMatchObject({ code: 3, stderr: '', installs: [] });
    const test = await run([asVersion(version), 'functions/run.js', 'test/program.ts', '3']);
    expect(test).toMatchObject({
      code: 3,
      stderr: INSTALLING.replace('20.20.2', version),
      installs: [expect.anything()],
    });
    expect(started(test.stdout[0])).toMatchObject({ main: true, args: ['3'] });
  });

  it('Node 22.17 runs no program itself', async () => {
    const { installs } = await run([asVersion('22.17.1'), 'functions/run.js', 'program.ts', '3']);
    expect(installs).toHaveLength(1);
  });
});

describe('a Node that is too old', () => {
  it('an old Node installs a new one once, prints one line about it, and runs the program with it', async () => {
    const first = await run([OLD, 'functions/run.js', '--no-warnings', 'program.ts', '3', '--flag']);
    expect(first).toMatchObject({ code: 3, stderr: INSTALLING, stdout: [expect.anything(), 'in'] });
    expect(first.installs).toEqual([expect.stringMatching(/functions\/node\/\.installing-\w+ ci /)]);
    expect(readdirSync(folder)).toEqual(['node_modules', 'package-lock.json', 'package.json']);
    const { main, args, execArgv, named, execPath } = started(first.stdout[0]);
    expect({ main, args, execArgv }).toEqual({ main: true, args: ['3', '--flag'], execArgv: ['--no-warnings'] });
    expect(named).toBe(execPath);

    const second = await run([OLD, 'functions/run.js', 'program.ts', '3']);
    expect(second).toMatchObject({ code: 3, stderr: '', installs: first.installs });
  });

  it('scripts that an old Node starts at the same time install beside each other, and all run', async () => {
    const runs = Array.from({ length: 4 }, () => run([OLD, 'functions/run.js', 'program.ts', '3'], { slow: true }));
    for (const { code } of await Promise.all(runs)) expect(code).toBe(3);
    expect(readdirSync(folder)).toEqual(['node_modules', 'package-lock.json', 'package.json']);
  });

  it('programs that the program starts by name run on the installed Node', async () => {
    // It prints its own path, as every Node does, and is another file than the one on PATH.
    const other = join(scratch, 'bin/other-node');
    cpSync(process.execPath, other);
    const { stdout } = await run([OLD, 'functions/run.js', 'program.ts', '0'], { node: other });
    expect(started(stdout[0])).toMatchObject({ named: other, execPath: other });
  });

  it('a changed lockfile is installed again', async () => {
    await run([OLD, 'functions/run.js', 'program.ts', '0']);
    const lockfile = readFileSync(join(scratch, LOCKFILE), 'utf8');
    writeFileSync(join(scratch, LOCKFILE), lockfile.replaceAll('sha512-', 'sha512-other'));
    const { installs } = await run([OLD, 'functions/run.js', 'program.ts', '0']);
    expect(installs).toHaveLength(2);
  });

  it.each([
    ['the installation fails', ''],
    ['the installed one cannot run here', '/no/such/node'],
  ])('one line says what to do, and the exit code is 1, where %s', async (_, node) => {
    const { code, stdout, stderr } = await run([OLD, 'functions/run.js', 'program.ts', '0'], { node });
    expect({ code, stdout, stderr }).toEqual({ code: 1, stdout: [], stderr: INSTALLING + FAILED });
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('%s is passed on to the program, and its exit code back', async (signal) => {
    const { child, lines } = start([OLD, 'functions/run.js', 'program.ts', '7']);
    await lines.next();
    child.kill(signal);
    expect(await lines.next()).toMatchObject({ value: signal });
    expect(await once(child, 'exit')).toEqual([7, null]);
  });

  it('a program that a signal ends has the exit code of a shell', async () => {
    writeFileSync(join(scratch, 'killed.ts'), 'process.kill(process.pid, "SIGKILL");');
    expect(await run([OLD, 'functions/run.js', 'killed.ts'])).toMatchObject({ code: 137 });
  });

  it('the program ends when the shell that npm started ends without passing a signal on', async () => {
    const { child, lines } = start([OLD, 'functions/run.js', 'program.ts', '7', 'stay'], {
      command: ['/bin/sh', '-c', '"$@"; true', 'sh'],
    });
    await lines.next();
    child.kill('SIGKILL');
    expect(await lines.next()).toMatchObject({ value: 'SIGTERM' });
  });
});
