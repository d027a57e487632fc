// In a sandbox without network in which the gateway listens on one port, that port is the only place that its processes
// reach, and only its own processes reach it.
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createSandboxFixture, type SandboxFixture } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

const PORT = 8123;
/**
 * What a connection to each port of the loopback reads; its processes and the descriptors of this one. `ls` is not in a
 * pipe: the shell holds a descriptor of it until it has started both sides.
 */
const PROBE = `
  read -r go
  for port do (exec 3<>/dev/tcp/127.0.0.1/$port && IFS= read -r line <&3 && echo "$port $line") 2>/dev/null || echo "$port none"; done
  while grep -qs MainThread /proc/[0-9]*/comm; do sleep 0.01; done
  names=$(cat /proc/[0-9]*/comm); echo $(echo "$names" | sort -u); ls -m /proc/$$/fd; grep -c : /proc/net/dev`;

describeWith('bubblewrap', 'the listener of a sandbox', () => {
  let fixture: SandboxFixture;
  let host: Server;
  beforeAll(async () => {
    fixture = await createSandboxFixture();
    host = createServer((socket) => socket.end('host\n')).listen(0, '127.0.0.1');
    await once(host, 'listening');
  });
  afterAll(() => host.close());

  const start = async (keyId: string, ports: readonly number[]) => {
    const argv: [string, ...string[]] = ['/bin/bash', '-c', PROBE, 'probe', ...ports.map(String)];
    const child = await fixture.sandbox.spawn({ keyId, argv, listenPort: PORT });
    const listener = await child.listener;
    if (listener === undefined) throw new Error('there is no listener');
    listener.on('connection', (socket) => socket.end(`the listener of ${keyId}\n`));
    return { child, listener };
  };
  const hostPort = (): number => {
    const address = host.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  };

  it('the processes of a sandbox reach only their own loopback; two sandboxes use the same port separately', async () => {
    const started = await Promise.all(['a', 'b'].map((keyId) => start(keyId, [PORT, hostPort(), 22])));
    const outputs = await Promise.all(
      started.map(async ({ child, listener }) => {
        child.stdin.end('go\n');
        const output = await text(child.stdout);
        listener.close();
        return output.trim().split('\n');
      }),
    );
    expect(outputs).toEqual(
      ['a', 'b'].map((keyId) => [
        `${PORT} the listener of ${keyId}`,
        `${hostPort()} none`,
        '22 none',
        'bash bwrap cat',
        '0, 1, 2',
        '1',
      ]),
    );
  });

  it('the listener of a sandbox does not change a sandbox without a listener', async () => {
    const child = await fixture.sandbox.spawn({ keyId: 'a', argv: ['cat'] });
    expect(child.listener).toBeUndefined();
    await child.kill(0);
  });

  it('the listener of a sandbox is refused where the port cannot be used inside', async () => {
    const child = await fixture.sandbox.spawn({ keyId: 'a', argv: ['sleep', '60'], listenPort: 99_999 });
    await expect(child.listener).rejects.toThrow('the listening program in the sandbox did not start');
    await child.kill(0);
  });
});
