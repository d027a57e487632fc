// MCP servers with `network: true` cannot reach the metadata server. The machine of the suite has two network
// namespaces, one with the program and the other with a stand-in for Google's metadata server at its addresses.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  localMain,
  type Program,
  startLocalGateway,
  startProgram,
} from '../../../support/fixtures/gateway/local-gateway.ts';
import { startSandboxService } from '../../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../../support/requirements.ts';

const run = promisify(execFile);
const FIXTURES = join(import.meta.dirname, '../../../support/fixtures/isolation');
const METADATA = ['169.254.169.254', 'fd20:ce::254'] as const;
const OTHERS = ['10.99.0.2', 'fd99::2'] as const;
const [HERE, THERE] = [`gateway-${process.pid}-a`, `gateway-${process.pid}-b`] as const;
const MCP_SERVERS = (network: boolean) => JSON.stringify({ files: { command: '/bin/cat', network } });

const ip = async (...args: string[]): Promise<string> => (await run('ip', args, { timeout: 10_000 })).stdout;
const inside = (name: string): readonly string[] => ['/usr/bin/nsenter', `--net=/run/netns/${name}`];

/** The rules that are not the kernel's own. */
async function rules(): Promise<string[]> {
  const all = (await Promise.all(['-4', '-6'].map((family) => ip('-n', HERE, family, 'rule')))).join('');
  return all.split('\n').filter((line) => line !== '' && !/^(0|3276[67]):/.test(line));
}

/** What each address answers to a sandbox with the network. */
async function answers(addresses: readonly string[]): Promise<Record<string, string>> {
  const [file = '', ...args] = [...inside(HERE), process.execPath];
  const { stdout } = await run(file, [...args, join(FIXTURES, 'network-probe.ts'), ...addresses]);
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/ (.*)/).slice(0, 2)),
  );
}

async function withService(prefix: readonly string[], network: boolean): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'metadata-server-'));
  try {
    const env = { MCP_SERVERS: MCP_SERVERS(network) };
    const service = await startSandboxService({ dataDir, env, prefix: [...inside(HERE), ...prefix] });
    expect(await service.end()).toBe(0);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

const LINE =
  'MCP_SERVERS: files: "network": true would give access to the metadata server of this machine ' +
  `(${METADATA.join(', ')})`;

describeWith('networks', 'a server that has the network, on a machine with a metadata server', () => {
  const all = [...METADATA, ...OTHERS].flatMap((address) => [`${address}/80`, `${address}/53`]);
  const toAnswers = (blocked: readonly string[]) =>
    Object.fromEntries(all.map((to) => [to, blocked.includes(to) ? 'nothing' : 'HTTP/1.1 200 OK']));
  let standIn: Program;

  beforeAll(async () => {
    for (const name of [HERE, THERE]) {
      await ip('netns', 'add', name);
      await ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    await ip('-n', HERE, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', THERE);
    for (const [name, addresses] of [
      [HERE, ['10.99.0.1/24', 'fd99::1/64']],
      [THERE, ['10.99.0.2/24', 'fd99::2/64', '169.254.169.254/32', 'fd20:ce::254/128']],
    ] as const) {
      for (const address of addresses) {
        await ip('-n', name, 'addr', 'add', address, 'dev', 'wire', ...(address.includes(':') ? ['nodad'] : []));
      }
      await ip('-n', name, 'link', 'set', 'wire', 'up');
    }
    for (const address of METADATA) await ip('-n', HERE, 'route', 'add', address, 'dev', 'wire');
    const program = join(FIXTURES, 'metadata-server.ts');
    const command = [...inside(THERE), process.execPath, program, ...all] as unknown as [string, ...string[]];
    standIn = await startProgram(command, /^listening at (\S+)$/, {});
  });

  afterAll(async () => {
    standIn?.child.kill('SIGKILL');
    await standIn?.exited;
    for (const name of [HERE, THERE]) await ip('netns', 'del', name);
  });

  it('the service changes no rule without a server with the network, and the metadata server answers', async () => {
    await withService([], false);
    expect(await rules()).toEqual([]);
    expect(await answers(all)).toEqual(toAnswers([]));
  });

  it.for([
    [
      'no right to add rules',
      ['/usr/bin/setpriv', '--bounding-set=-net_admin'],
      'ip: RTNETLINK answers: Operation not',
    ],
    ['another user', ['/usr/bin/setpriv', '--reuid=65534', '--clear-groups'], 'this is not root'],
  ] as const)('the service does not start with %s', async ([, prefix, reason]) => {
    await expect(withService(prefix, true)).rejects.toThrow(`${LINE}, and so to its service account (${reason}`);
    expect(await rules()).toEqual([]);
  });

  it('a gateway that would run the server itself does not start', async () => {
    const command = [...inside(HERE), process.execPath, localMain()] as unknown as [string, ...string[]];
    const env = { MCP_SERVERS: MCP_SERVERS(true) };
    const start = startLocalGateway({ command, env }).then((gateway) => gateway.stop());
    await expect(start).rejects.toThrow(`${LINE}, and so to its service account: use the sandbox service`);
    expect(await rules()).toEqual([]);
  });

  it('the service makes the metadata server unreachable for sandboxes, and only that, also when it starts again', async () => {
    await withService([], true);
    const added = await rules();
    expect(added).toHaveLength(4);
    expect(await answers(all)).toEqual(toAnswers(METADATA.map((address) => `${address}/80`)));
    await withService([], true);
    expect(await rules()).toEqual(added);
    // Programs of the machine, such as a gateway, use it as before.
    const get = ['-e', `fetch('http://169.254.169.254/').then(({ status }) => console.log(status))`];
    const [file = '', ...args] = [...inside(HERE), process.execPath];
    expect((await run(file, [...args, ...get], { timeout: 30_000 })).stdout).toBe('200\n');
  });
});
