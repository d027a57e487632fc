// The erasure of an owner or of a session ends what runs for it and nothing else, in this process and in the sandbox
// service.
import { expect, it } from 'vitest';
import type { SandboxPorts } from '../../../shared/sandbox-ports/ports.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, PORT_ADAPTERS } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { HANDLE, REQUEST } from '../../support/fixtures/sandbox/terminals.ts';
import { describeWith } from '../../support/requirements.ts';

const isRunning = async (mark: string): Promise<boolean> => (await processesWith(mark)).length > 0;

async function sh(ports: SandboxPorts, keyId: string, script: string): Promise<string> {
  const options = { signal: new AbortController().signal, timeoutMs: 30_000, outputBytesMax: 1_000 };
  return (await ports.commands.run({ keyId, argv: ['/bin/sh', '-c', script] }, options)).stdout.toString();
}

for (const [name, create] of Object.entries(PORT_ADAPTERS)) {
  describeWith('bubblewrap', `erasures ${name}`, async () => {
    const fixture = await create();

    it('the erasure of an owner ends everything that runs and removes the workspace, of no other owner', async () => {
      const { ports } = await fixture.open();
      for (const owner of ['a', 'b']) await sh(ports, owner, 'echo kept > ~/file; mkdir -m 0 ~/closed /tmp/x');
      const [terminal, server, command, other] = [freshMark(), freshMark(), freshMark(), freshMark()];
      await ports.terminals.start(HANDLE, REQUEST);
      await ports.terminals.input(HANDLE, `sleep ${terminal}\r`);
      const sleep = { command: 'sleep', args: [server], env: {} };
      const { stdout, stderr, exited } = await ports.stdioServers.start('a', sleep, new AbortController().signal);
      for (const stream of [stdout, stderr]) stream.resume();
      const running = sh(ports, 'a', `sleep ${command}`).catch(() => '');
      const untouched = sh(ports, 'b', `sleep ${other}`).catch(() => '');
      const marks = [terminal, server, command, other];
      await expect.poll(() => Promise.all(marks.map(isRunning))).toEqual([true, true, true, true]);

      await ports.erase({ owner: 'a', agoMs: 0 });
      await Promise.all([exited, running]);
      expect(await Promise.all(marks.map(isRunning))).toEqual([false, false, false, true]);
      expect(await sh(ports, 'a', 'ls -A ~ /tmp')).not.toContain('file');
      expect(await sh(ports, 'b', 'cat ~/file')).toBe('kept\n');
      await ports.erase({ owner: 'b', agoMs: 0 });
      await untouched;
      await ports.erase({ owner: 'never there', agoMs: 0 });
    });

    it('the erasure of a session ends its terminal, and nothing else of its owner', async () => {
      const { ports } = await fixture.open();
      await sh(ports, 'a', 'echo kept > ~/file');
      await ports.terminals.start(HANDLE, REQUEST);
      const second = { ...HANDLE, sessionId: 'second' };
      await ports.terminals.start(second, REQUEST);
      await ports.erase({ ...HANDLE, agoMs: 0 });
      await expect(ports.terminals.input(HANDLE, 'x')).rejects.toMatchObject({ reason: 'not_found' });
      expect(await ports.terminals.start(second, REQUEST)).toMatchObject({ resumed: true });
      expect(await sh(ports, 'a', 'cat ~/file')).toBe('kept\n');
      await fixture.endAll();
    });
  });
}
