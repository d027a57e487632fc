// The helper that starts processes passes on complete streams, reports failures by their code, and ends with its
// processes when the helper or the gateway ends unexpectedly.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { createSpawner } from '../../../shared/sandbox/spawner/spawner.ts';
import { ROOT } from '../../support/fixtures/gateway/local-gateway.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

const marker = (): string => `${400_000 + Math.floor(Math.random() * 1e8)}.${process.pid}`;

/** Waits until the process has ended; the kernel needs a moment after a kill. */
async function survivors(mark: string): Promise<string[]> {
  let left = await processesWith(mark);
  for (const deadlineMs = performance.now() + 10_000; left.length > 0 && performance.now() < deadlineMs; ) {
    await pause(20);
    left = await processesWith(mark);
  }
  return left;
}

describe('the helper', () => {
  const spawner = createSpawner();
  afterAll(() => spawner.close());
  const sh = (script: string, onStatus: (text: string) => void = () => {}) =>
    spawner.spawn('/bin/sh', ['-c', script], { hasStdin: true, onStatus });

  it('the helper passes on the streams completely, and reports status and exit', async () => {
    let status = '';
    const child = await sh('cat; head -c 3000000 /dev/zero; echo said >&2; echo told >&3; exit 7', (more) => {
      status += more;
    });
    child.stdin?.end('heard');
    const [stdout, stderr, how] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
    expect(stdout.length).toBe('heard'.length + 3_000_000);
    expect(stdout.startsWith('heard')).toBe(true);
    expect({ stderr, status, ...how }).toEqual({ stderr: 'said\n', status: 'told\n', code: 7, signal: null });
  });

  it('the helper loses no output of many processes that end at once', async () => {
    const outputs = await Promise.all(
      Array.from({ length: 20 }, async (_, number) => {
        const child = await sh(`echo ${number}; echo ${number} >&2`);
        return Promise.all([child.stdout, child.stderr].map(collect));
      }),
    );
    expect(outputs).toEqual(outputs.map((_, number) => [`${number}\n`, `${number}\n`]));
  });

  it('the helper gives a child none of the gateway’s environment and descriptors', async () => {
    const child = await sh('echo $PATH$HOME$NODE_CHANNEL_FD; ls /proc/self/fd | tr "\\n" " "');
    const [, fds] = (await text(child.stdout)).split('\n');
    // The shell sets a PATH of its own; 3 is the status, 4 the input, 5 is opened by ls.
    expect(fds).toBe('0 1 2 3 4 5 ');
  });

  it('the helper reports why a program could not start', async () => {
    const options = { hasStdin: false, onStatus: () => {} };
    await expect(spawner.spawn(join(ROOT, 'no-such-program'), [], options)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(spawner.spawn('/bin/true', ['x'.repeat(200_000)], options)).rejects.toMatchObject({ code: 'E2BIG' });
  });

  it('the helper reports all of its processes as killed when it dies, and starts again', async () => {
    const child = await sh('exec sleep 1000');
    const helper = Number(/^\d+ \(.*\) \S (\d+)/.exec(readFileSync(`/proc/${child.pid}/stat`, 'latin1'))?.[1]);
    expect(helper).not.toBe(process.pid);
    process.kill(helper, 'SIGKILL');
    expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' });
    // No sandbox here, so it does not end with the helper.
    process.kill(child.pid, 'SIGKILL');
    const next = await sh('echo again');
    expect(await text(next.stdout)).toBe('again\n');
  });
});

describeWith('bubblewrap', 'a gateway that is killed', () => {
  const directory = mkdtempSync(join(tmpdir(), 'killed-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it('the helper and the sandboxes of a killed gateway end too', async () => {
    const mark = marker();
    const program = `
      import { createBubblewrapSandbox } from '${ROOT}/shared/sandbox/bubblewrap.ts';
      const sandbox = createBubblewrapSandbox({ directory: '${directory}', path: process.env.PATH });
      const child = await sandbox.spawn({ keyId: 'a', argv: ['sh', '-c', 'setsid sleep ${mark} & echo up; cat'] });
      child.stdout.pipe(process.stdout);
    `;
    const gateway: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env.PATH },
    });
    if (gateway.stdout === null) throw new Error('no stdout');
    await once(gateway.stdout, 'data');
    expect(await processesWith(mark)).not.toEqual([]);
    gateway.kill('SIGKILL');
    expect(await survivors(mark)).toEqual([]);
  });

  it('a gateway that is killed before it has acknowledged the streams of a process ends its helper too', async () => {
    const mark = marker();
    // Ends with its standard input.
    const started = { file: '/bin/sh', args: ['-c', `read line # ${mark}`], hasStdin: true };
    const request = { id: 1, ...started, input: '', files: [], hasListener: false };
    const program = `
      import { startHelper } from '${ROOT}/shared/sandbox/spawner/helper.ts';
      const helper = startHelper([]);
      helper.send(${JSON.stringify(request)}, () => {
        process.stdout.write(String(helper.pid));
        // Reads no message from here on, so that it acknowledges no stream.
        process.nextTick(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
      });
    `;
    const gateway = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env.PATH },
    });
    const [helper] = await once(gateway.stdout, 'data');
    // The command line of the gateway contains the mark too.
    const shells = async () => (await processesWith(mark)).filter((line) => line.startsWith('/bin/sh'));
    await expect.poll(shells).toHaveLength(1);
    gateway.kill('SIGKILL');
    await expect.poll(() => existsSync(`/proc/${String(helper)}`)).toBe(false);
    expect(await survivors(mark)).toEqual([]);
  });
});

function collect(stream: Readable): Promise<string> {
  return stream.closed ? Promise.resolve('') : text(stream);
}
