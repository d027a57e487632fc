// A server that is registered with `network: true` cannot reach the port of the sandbox service from inside its
// sandbox, which shares the network, but other programs of the machine.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../../../shared/log.ts';
import { connectLink } from '../../../../shared/sandbox-link/link/connect/connect-link.ts';
import { TOKEN } from '../../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, startSandboxService } from '../../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../../support/requirements.ts';

/** What each address answers to a request. In a subshell: a write to a connection that is closed ends it. */
const PROBE = `
  request='GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n'
  for to do
    line=$( { exec 3<>/dev/tcp/$to && printf "$request" >&3 && IFS= read -r line <&3 && echo "$line"; } 2>/dev/null)
    echo "$to \${line:-nothing}"
  done`;
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
const log = createLogger({ format: 'json', write: () => {} });

/** Addresses of the machine on which a service on all interfaces listens. */
const ADDRESSES = Object.values(networkInterfaces()).flatMap((all) =>
  (all ?? []).filter(({ family }) => family === 'IPv4').map(({ address }) => address),
);

describeWith('bubblewrap', 'a sandbox with the network', () => {
  let host: Server;
  beforeAll(async () => {
    host = createServer((socket) => socket.end('host\n')).listen(0, '127.0.0.1');
    await once(host, 'listening');
  });
  afterAll(() => host.close());

  it.for([['this user', undefined], ...(isRoot ? ([['another user', NOBODY]] as const) : [])] as const)(
    'a sandbox with the network cannot reach the service of %s, which others of that user reach',
    async ([, uid]) => {
      const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-listener-'));
      if (uid !== undefined) chownSync(dataDir, uid, uid);
      chmodSync(dataDir, 0o755);
      const port = await freePort();
      const own = ADDRESSES.map((address) => `${address}/${port}`);
      const other = `127.0.0.1/${(host.address() as AddressInfo).port}`;
      const probe = { command: '/bin/bash', args: ['-c', PROBE, 'probe', ...own, other], network: true };
      const prefix =
        uid === undefined ? [] : ['/usr/bin/setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
      const env = { MCP_SERVERS: JSON.stringify({ probe }), HOST: '0.0.0.0' };
      const service = await startSandboxService({ port, dataDir, env, prefix });
      const url = `http://127.0.0.1:${port}`;
      const headers = async () => ({ Authorization: `Bearer ${TOKEN}` });
      const link = await connectLink({ url, headers, handlers: {}, log });
      try {
        const [spec, io, errors] = [link.openStream(), link.openStream(), link.openStream()];
        spec.end(JSON.stringify({ registered: 'probe' }));
        spec.resume();
        errors.end();
        const failure = text(errors);
        const streams = { spec: spec.id, io: io.end().id, errors: errors.id };
        await link.request('server.start', { owner: 'a', start_id: randomUUID(), ...streams });
        const output = await text(io);
        expect(await failure).toBe('');
        expect(output.trim().split('\n')).toEqual([...own.map((to) => `${to} nothing`), `${other} host`]);
        const script = `fetch('${url}/health').then((answer) => answer.text()).then(console.log)`;
        const user = uid === undefined ? {} : { uid, gid: uid };
        const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { cwd: '/', ...user });
        expect(JSON.parse(stdout)).toEqual({ status: 'healthy' });
      } finally {
        await link.close();
        await service.end();
        rmSync(dataDir, { recursive: true, force: true });
      }
    },
  );
});
