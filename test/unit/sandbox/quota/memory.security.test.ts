// All processes of an owner together stay within one memory limit, on machines with control groups for it.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createMemoryTree, locateMemoryGroup } from '../../../../shared/sandbox/quota/memory-tree.ts';
import { openPty } from '../../../../shared/terminals/pty.ts';
import { localMain, startLocalGateway } from '../../../support/fixtures/gateway/local-gateway.ts';
import { createSandboxFixture } from '../../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../../support/requirements.ts';

function directoryOfGroups(): string {
  const [mountinfo, cgroup] = ['mountinfo', 'cgroup'].map((name) => readFileSync(`/proc/self/${name}`, 'utf8'));
  const located = locateMemoryGroup(mountinfo ?? '', cgroup ?? '');
  return located?.directory ?? '';
}

/** The groups that a process has created, by the names of their parents. */
function groupsOf(pid: number | undefined): string[] {
  return readdirSync(directoryOfGroups()).filter((name) => name.startsWith(`codex-gateway-${pid}-`));
}

/** Names of the programs that run in an owner's group of this process. */
function programsIn(owner: string): string[] {
  return groupsOf(process.pid).flatMap((name) => {
    const pids = read(join(directoryOfGroups(), name, owner, 'cgroup.procs'))
      .split('\n')
      .filter(Boolean);
    return pids.map((pid) => read(`/proc/${pid}/comm`).trim());
  });
}

/** Empty for a process that has just ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

async function exec(url: string): Promise<Record<string, unknown>> {
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': 'dev-key' },
    body: JSON.stringify({ jsonrpc: '2.0', method: 'exec', params: { command: 'true' }, id: 1 }),
  });
  const { result } = (await response.json()) as { readonly result: Record<string, unknown> };
  return result;
}

/** Shared memory that is in no process's private memory: memfds, filled one after the other. */
const MEMFDS = `
import os
held = []
while True:
    fd = os.memfd_create('x')
    for _ in range(8): os.write(fd, bytes(1 << 20))
    held.append(fd)
`;

describeWith('memory', 'memory', () => {
  it('memory in memfds is counted: the command is killed, a command of another key continues, and no group is left', async () => {
    const earlier = new Set(groupsOf(process.pid));
    const groups = (): string[] => groupsOf(process.pid).filter((name) => !earlier.has(name));
    const fixture = await createSandboxFixture(undefined, 96 << 20);
    const other = await fixture.sandbox.spawn({ keyId: 'b', argv: ['cat'] });
    const killed = await fixture.sandbox.run(
      { keyId: 'a', argv: ['/usr/bin/python3', '-c', MEMFDS] },
      { signal: new AbortController().signal, timeoutMs: 50_000, outputBytesMax: 1 << 20 },
    );
    expect(killed).toMatchObject({ exitCode: 137, signal: 'SIGKILL', timedOut: false });
    expect(killed.stderr.toString()).toMatch(/\nsandbox: a process was killed: .* \d+ MB of memory\n$/);
    expect(await fixture.sh('echo still')).toMatchObject({ stdout: Buffer.from('still\n'), stderr: Buffer.alloc(0) });
    expect(groups()).toHaveLength(1);
    await other.kill(0);
    await fixture.sandbox.close();
    expect(groups()).toEqual([]);
  });

  it('all processes of a key are in one group, in each way to start them', async () => {
    const { sandbox } = await createSandboxFixture();
    const spec = { keyId: 'a', argv: ['sleep', '60'] as [string, ...string[]] };
    const leave = new AbortController();
    const run = sandbox.run(spec, { signal: leave.signal, timeoutMs: 60_000, outputBytesMax: 1 });
    const ended = expect(run).rejects.toThrow();
    const server = await sandbox.spawn(spec);
    const pty = await openPty({ cols: 80, rows: 24 }, (tty) => sandbox.attach(spec, tty));
    await expect.poll(() => programsIn('owner-1').filter((name) => name === 'sleep')).toHaveLength(3);
    leave.abort();
    pty.kill();
    await Promise.all([ended, server.kill(0), pty.exited]);
  });

  it('the groups of a gateway that was killed are removed', async () => {
    const gateway = await startLocalGateway();
    expect((await exec(gateway.url)).exit_code).toBe(0);
    const { pid } = gateway.child;
    expect(groupsOf(pid)).toHaveLength(1);
    gateway.child.kill('SIGKILL');
    await gateway.stop();
    await expect.poll(() => groupsOf(pid)).toEqual([]);
  });
});

describeWith('mounts', 'a machine without memory groups', () => {
  it('a machine without memory groups is logged in one line at start, and runs commands', async () => {
    const hide = 'mount -t tmpfs tmpfs /sys/fs/cgroup && exec "$0" "$@"';
    const gateway = await startLocalGateway({
      command: ['unshare', '--mount', '/bin/sh', '-c', hide, process.execPath, localMain()],
    });
    expect((await exec(gateway.url)).exit_code).toBe(0);
    await expect.poll(gateway.output).toMatch(/^.*WARN.*no memory control group can be created here \(.*\).*$/m);
    await gateway.stop();
  });
});

describe('the memory group of this process', () => {
  it.each([
    [
      'version 1, in a group of its own',
      '30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
      '4:memory:/jobs/one\n0::/\n',
      { version: 1, directory: '/sys/fs/cgroup/memory/jobs/one' },
    ],
    [
      'version 1, with a container’s group mounted as the root',
      '30 25 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory',
      '4:memory:/docker/abc\n',
      { version: 1, directory: '/sys/fs/cgroup/memory' },
    ],
    [
      'version 2',
      '30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate',
      '0::/system.slice/gateway.service\n',
      { version: 2, directory: '/sys/fs/cgroup/system.slice/gateway.service' },
    ],
    ['above what is mounted', '30 25 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw', '0::/\n', undefined],
    ['not mounted', '25 1 0:22 / /sys rw - sysfs sysfs rw', '4:memory:/\n', undefined],
  ])('the memory group of this process is found: %s', (_name, mountinfo, cgroup, expected) => {
    expect(locateMemoryGroup(mountinfo, cgroup)).toEqual(expected);
  });

  it('the memory group of this process of version 2 is split into one for the gateway and one for the owners; leftovers go, others stay', () => {
    // Ordinary files: this shows what is written, not how a kernel reacts.
    const directory = mkdtempSync(join(tmpdir(), 'cgroup-'));
    const leftover = 'codex-gateway-999999999-1-AbCdEf';
    for (const name of [`${leftover}/owner-1`, 'another']) mkdirSync(join(directory, name), { recursive: true });
    const { base, gatewayGroup, ownerBytes } = createMemoryTree({ version: 2, directory });
    expect(read(join(gatewayGroup, 'cgroup.procs'))).toBe(String(process.pid));
    expect(read(join(directory, 'cgroup.subtree_control'))).toBe('+memory');
    expect(read(join(base, 'cgroup.subtree_control'))).toBe('+memory');
    expect(Number(read(join(base, 'memory.max')))).toBeGreaterThanOrEqual(ownerBytes);
    const names = readdirSync(directory);
    expect(names).toContain('another');
    expect(names).not.toContain(leftover);
    rmSync(directory, { recursive: true });
  });
});
