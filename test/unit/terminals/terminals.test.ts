// The Terminals adapters pass the cases of their port, and each terminal leaves one line in the log.
import { expect, it } from 'vitest';
import { terminalsCases } from '../../cases/sandbox/terminals.cases.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { PORT_ADAPTERS } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { describeWith } from '../../support/requirements.ts';

for (const [name, create] of Object.entries(PORT_ADAPTERS)) terminalsCases(name, create);

describeWith('bubblewrap', 'the log of terminals', () => {
  it('the log of terminals has one line for each ended terminal: its program, exit code and call, never its input or output', async () => {
    const gateway = await startInProcess({ PATH: process.env.PATH });
    const { terminals } = gateway.services;
    const handle = { owner: 'a', sessionId: 's' };
    await terminals.start(handle, { shell: '/bin/sh', cwd: undefined, env: {}, requestId: 'req_1' });
    await terminals.input(handle, 'echo canary; exit 3\r');
    await expect.poll(() => gateway.logged()).toContain('"command"');
    await gateway.close();
    const lines = gateway
      .logged()
      .split('\n')
      .filter((line) => line.includes('interactive.start'));
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      expect.objectContaining({
        request_id: 'req_1',
        key_id: 'a',
        method: 'interactive.start',
        argv: ['/bin/sh'],
        exit_code: 3,
        ms: expect.any(Number),
      }),
    ]);
    expect(gateway.logged()).not.toContain('canary');
  });
});
