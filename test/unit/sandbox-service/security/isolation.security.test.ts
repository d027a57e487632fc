// Callers' processes inside the sandbox service, in each way to start them, cannot read anything of the service, of
// other owners or of the machine, and one owner cannot use up the resources of all.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LONG_SLOTS } from '../../../../shared/bounds/slots.ts';
import { createLogger } from '../../../../shared/log.ts';
import { createRemotePorts } from '../../../../shared/sandbox-link/client/remote-ports.ts';
import type { SandboxPorts } from '../../../../shared/sandbox-ports/ports.ts';
import { ROOT } from '../../../support/fixtures/gateway/local-gateway.ts';
import { EXPECTED, PROBE } from '../../../support/fixtures/isolation/isolation-probe.ts';
import { processesWith } from '../../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../../support/fixtures/sandbox/sandbox-ports.ts';
import { type SandboxService, startSandboxService } from '../../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../../support/requirements.ts';

const CANARY = `canary-${freshMark()}`;
/** A word with a bracket is not found in the text of the script itself. */
const LOOK = `${PROBE}
  echo "service=$(cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c -e '[c]anary-' -e 'SANDBOX_[T]OKEN')"
  echo "files=$(cat ~/*.txt /tmp/*.txt 2>/dev/null | sort -u | tr '\\n' ' ')"
  echo "processes=$(ls /proc | grep -c '^[0-9]')"`;
const log = createLogger({ format: 'json', write: () => {} });
const signal = new AbortController().signal;

type Way = (ports: SandboxPorts, owner: string) => Promise<string>;

async function serve(ports: SandboxPorts, owner: string, server: object): Promise<string> {
  const child = await ports.stdioServers.start(
    owner,
    server as Parameters<SandboxPorts['stdioServers']['start']>[1],
    signal,
  );
  child.stdin.end();
  const [output] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
  return output;
}

const WAYS: Readonly<Record<string, Way>> = {
  async command({ commands }, keyId) {
    const options = { signal, timeoutMs: 30_000, outputBytesMax: 1 << 20 };
    return (await commands.run({ keyId, argv: ['/bin/sh', '-c', LOOK] }, options)).stdout.toString();
  },
  async terminal({ commands, terminals }, owner) {
    const options = { signal, timeoutMs: 30_000, outputBytesMax: 1 << 20, stdin: LOOK };
    await commands.run({ keyId: owner, argv: ['/bin/sh', '-c', 'cat > ~/look'] }, options);
    const handle = { owner, sessionId: 's' };
    const shell = { shell: '/bin/sh', cwd: undefined, env: {}, requestId: 'req_1', cols: 200, rows: 24 };
    await terminals.start(handle, shell);
    let output = '';
    const ended = Promise.withResolvers<number>();
    const watcher = {
      output: ({ data }: { readonly data: string }) => {
        output += data;
      },
      exit: ended.resolve,
    };
    await terminals.watch(handle, watcher, 0);
    await terminals.input(handle, 'stty -echo; clear; echo beg""in; sh ~/look; exit\r');
    await ended.promise;
    return (
      output
        .replaceAll('\r', '')
        .split('begin\n')
        .at(-1)
        ?.replace(/exit\n?$/, '') ?? ''
    );
  },
  'stdio MCP server of a caller': (ports, owner) =>
    serve(ports, owner, { command: '/bin/sh', args: ['-c', LOOK], env: { TOKEN: 'x' } }),
  'stdio MCP server of the administrator': (ports, owner) => serve(ports, owner, { registered: 'look' }),
};

describeWith('bubblewrap', 'inside the sandbox service', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-inside-'));
  let service: SandboxService;
  /** Of two companions. */
  let first: SandboxPorts;
  let second: SandboxPorts;
  beforeAll(async () => {
    const look = { command: '/bin/sh', args: ['-c', LOOK], network: true, paths: [join(ROOT, 'test/support/fakes')] };
    service = await startSandboxService({ dataDir, env: { CANARY, MCP_SERVERS: JSON.stringify({ look }) } });
    const address = { url: service.url, token: TOKEN };
    [first, second] = [0, 1].map(() => createRemotePorts({ address, log, onTerminalEnded() {} })) as [
      SandboxPorts,
      SandboxPorts,
    ];
    for (const keyId of ['a', 'b']) {
      const argv = ['/bin/sh', '-c', `echo file-of-${keyId} | tee ~/own.txt > /tmp/own.txt`] as const;
      await first.commands.run({ keyId, argv }, { signal, timeoutMs: 30_000, outputBytesMax: 100 });
      // Beside them run a terminal and a server of both.
      const shell = { shell: '/bin/cat', cwd: undefined, env: { CANARY }, requestId: 'req_1' };
      await first.terminals.start({ owner: keyId, sessionId: 'beside' }, shell);
      await first.stdioServers.start(keyId, { command: 'cat', args: [], env: { CANARY } }, signal);
    }
  });
  afterAll(async () => {
    await Promise.all([first.close(), second.close()]);
    await service.end();
    rmSync(dataDir, { recursive: true, force: true });
  });

  it.each(Object.entries(WAYS))(
    'a process can access only files and processes of its owner, and has no capability: %s',
    async (name, way) => {
      for (const owner of ['a', 'b']) {
        // A server that has the network gets a home of its own.
        const files = name.endsWith('administrator') ? '' : `file-of-${owner} `;
        const lines = (await way(first, owner)).trimEnd().split('\n');
        expect(lines.slice(0, EXPECTED.length)).toEqual(EXPECTED);
        expect(lines.slice(EXPECTED.length)).toEqual([
          'service=0',
          `files=${files}`,
          expect.stringMatching(/^processes=\d$/),
        ]);
      }
    },
  );

  it('no command line of the machine has a variable of a caller', async () => {
    expect(await processesWith(CANARY)).toEqual([]);
  });

  it('one owner has a bounded number of places over all companions, and another one finds some', async () => {
    const start = ({ stdioServers }: SandboxPorts, owner: string) =>
      stdioServers.start(owner, { command: 'cat', args: [], env: {} }, signal);
    const all = await Promise.allSettled(
      Array.from({ length: 2 * LONG_SLOTS.perKey }, (_, index) => start(index % 2 === 0 ? first : second, 'a')),
    );
    const started = all.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const refused = all.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    // A terminal and a server of this owner run already.
    expect(started).toHaveLength(LONG_SLOTS.perKey - 2);
    for (const error of refused) expect(error).toMatchObject({ reason: 'unavailable' });
    const other = await start(second, 'b');
    await Promise.all([...started, other].map((child) => child.kill(0)));
  });
});
