// A sandbox that is ended during its setup is not mistaken for a failure of bwrap. A process of this machine replaces
// the sandbox's init.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { startProcess } from '../../../shared/sandbox/process/sandbox-process.ts';
import type { Spawner } from '../../../shared/sandbox/spawner/spawner.ts';

it('a sandbox that is ended during its setup counts as started, and not as a failure of bwrap', async () => {
  const init = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
  const initEnd = once(init, 'exit');
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const exited = initEnd.then(() => {
    for (const stream of [stdout, stderr]) stream.end();
    return { code: 1, signal: null };
  });
  const spawner: Spawner = {
    async spawn(_file, _args, { onStatus }) {
      onStatus(`{ "child-pid": ${init.pid} }\n`);
      return { pid: 1, stdin: undefined, stdout, stderr, listener: undefined, exited, kill() {} };
    },
    leaveCgroup() {},
    close() {},
  };
  const child = await startProcess(spawner, 'bwrap', [], { hasStdin: false, nice: 0 });
  child.kill(60_000);
  expect(await child.ended).toEqual({ exitCode: 1, started: true });
});
