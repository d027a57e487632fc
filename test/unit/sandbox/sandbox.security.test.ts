// A process inside the sandbox cannot reach the gateway, the network or other keys, and none is left behind.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createBubblewrapSandbox } from '../../../shared/sandbox/bubblewrap.ts';
import { DISK_LIMITS } from '../../../shared/sandbox/limits.ts';
import { createSandboxFixture, ownersOf, processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

/** A duration for sleep(1) that no other process uses, so that command lines can be searched for it. */
const marker = (): string => `${100_000 + Math.floor(Math.random() * 1e8)}.${process.pid}`;

describe('without bubblewrap', () => {
  it('a machine without bubblewrap runs nothing, and the error names the package to install', async () => {
    const { directory } = await createSandboxFixture();
    // Without a system directory on the path, neither the machine's bwrap nor any other program is found.
    const sandbox = createBubblewrapSandbox({
      directory: join(directory, 'none'),
      path: '/nonexistent',
      bundled: false,
    });
    expect(await sandbox.available()).toEqual({
      ok: false,
      reason: expect.stringMatching(/bubblewrap|missing|Linux/),
      hint: expect.stringMatching(/install|run the gateway/),
    });
    const spec = { keyId: 'a', argv: ['true'] as const };
    const options = { signal: new AbortController().signal, timeoutMs: 1000, outputBytesMax: 100 };
    const refused = { reason: 'sandbox_unavailable', data: { disabled_by: 'deployment', hint: expect.any(String) } };
    await expect(sandbox.run({ ...spec, argv: ['true'] }, options)).rejects.toMatchObject(refused);
    await expect(sandbox.spawn({ ...spec, argv: ['true'] })).rejects.toMatchObject(refused);
    await expect(sandbox.attach({ ...spec, argv: ['true'] }, '/dev/null')).rejects.toMatchObject(refused);
  });
});

describeWith('bubblewrap', 'the sandbox', async () => {
  const fixture = await createSandboxFixture();

  it('the sandbox has no rights and can write nowhere but in its own directories', async () => {
    const { stdout } = await fixture.sh(`
      id -u; grep -h -E 'Cap(Eff|Prm|Inh|Amb)|NoNewPrivs' /proc/self/status | tr -s '\\t ' ' '
      for path in / /usr /etc /dev /proc/sys/kernel /var /run /usr/bin /home; do touch "$path/x" 2>/dev/null && echo "wrote $path"; done
      echo x 2>/dev/null > /etc/passwd && echo 'wrote passwd'
      echo core 2>/dev/null > /proc/sys/kernel/core_pattern && echo 'wrote a sysctl'
      ls /proc/self/fd | tr '\\n' ' '; touch /tmp/ok ~/ok && echo fine`);
    expect(stdout.toString().split('\n')).toEqual([
      '1000',
      ...['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].map((name) => `${name}: 0000000000000000`),
      'NoNewPrivs: 1',
      // The fourth one is opened by ls.
      '0 1 2 3 fine',
      '',
    ]);
  });

  it('the sandbox has no process of root, not even the one that sets it up', async () => {
    const mark = marker();
    const looked = new AbortController();
    let owners: number[] = [];
    const running = fixture.sh(`echo started; sleep ${mark}`, {
      signal: looked.signal,
      async onOutput() {
        owners = await ownersOf(mark);
        looked.abort(new Error('looked'));
      },
    });
    await expect(running).rejects.toThrow('looked');
    // bwrap, its init, the shell.
    expect(owners.length).toBeGreaterThan(1);
    expect(owners).not.toContain(0);
  });

  it('the sandbox contains nothing of the gateway: not its environment, processes, data, nor the workspace of another key', async () => {
    const canary = `canary-${marker()}`;
    process.env.GATEWAY_TEST_CANARY = canary;
    try {
      await writeFile(join(fixture.directory, 'gateway.sqlite'), canary);
      await fixture.sh(`echo ${canary} | tee /tmp/secret.txt > ~/secret.txt`, { keyId: 'b' });
      const { stdout, stderr } = await fixture.sh(`
        env; cat /proc/*/environ; cat /proc/*/cmdline; cat '${fixture.directory}/gateway.sqlite'; ls -laR /tmp /home /run /var '${fixture.directory}'
        cat /proc/${process.pid}/maps /proc/${process.pid}/environ /tmp/secret.txt ~/secret.txt /etc/shadow; ls /sys /root
        echo found=$(find / -xdev -name secret.txt | wc -l) processes=$(ls /proc | grep -c '^[0-9]')`);
      expect(stdout.toString()).not.toContain(canary);
      const seen = /found=(\d+) processes=(\d+)/.exec(stdout.toString());
      expect(seen?.[1]).toBe('0');
      expect(Number(seen?.[2])).toBeLessThan(10);
      expect(stderr.toString()).not.toContain(canary);
      // The key's own files are kept between calls.
      const kept = await fixture.sh('cat /tmp/secret.txt ~/secret.txt', { keyId: 'b' });
      expect(kept.stdout.toString()).toBe(`${canary}\n${canary}\n`);
    } finally {
      delete process.env.GATEWAY_TEST_CANARY;
    }
  });

  it('a command reaches no network: neither the metadata server nor the machine itself', async () => {
    let calls = 0;
    const server = createServer((_, res) => {
      calls++;
      res.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const { port } = server.address() as AddressInfo;
    const { stdout } = await fixture.sh(`
      for to in 169.254.169.254/80 127.0.0.1/${port} 8.8.8.8/53; do
        timeout 2 bash -c "exec 3<>/dev/tcp/$to" 2>/dev/null && echo "reached $to"
      done; tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/route | wc -l`);
    await new Promise((resolve) => server.close(resolve));
    expect(stdout.toString().replaceAll(' ', '')).toBe('lo\n1\n');
    expect(calls).toBe(0);
  });

  it.each([
    ['a background child', 'sleep MARK & exit 0'],
    ['setsid', 'setsid sleep MARK & exit 0'],
    ['a double fork', '(setsid sh -c "sleep MARK & sleep MARK & wait" &) ; exit 0'],
    ['nohup, TERM ignored', 'trap "" TERM HUP; nohup sleep MARK >/dev/null 2>&1 & sleep 0.2; exit 0'],
    ['closed streams', 'exec >&- 2>&-; setsid sleep MARK & exit 0'],
  ])('a command leaves no process when it ends: %s', async (_, script) => {
    const mark = marker();
    const { exitCode, timedOut } = await fixture.sh(script.replaceAll('MARK', mark));
    expect({ exitCode, timedOut }).toEqual({ exitCode: 0, timedOut: false });
    expect(await processesWith(mark)).toEqual([]);
  });

  it('the sandbox ends a command after its timeout, first by TERM, then by KILL to all, a fork bomb included', async () => {
    const marks = [marker(), marker(), marker(), marker()] as const;
    const contained = new AbortController();
    const [cooperative, ignoring, , outside] = await Promise.all([
      fixture.sh(`trap 'echo bye; exit 3' TERM; sleep ${marks[0]} & wait`, { timeoutMs: 2_500 }),
      fixture.sh(`trap '' TERM; setsid sleep ${marks[1]} & sleep ${marks[1]}; sleep ${marks[1]}`, { timeoutMs: 500 }),
      expect(
        fixture.sh(`bomb() { bomb | bomb & }; bomb; sleep ${marks[2]}`, {
          keyId: 'bomb',
          signal: contained.signal,
          onOutput(_, bytes) {
            if (bytes.includes('Cannot fork')) contained.abort(new Error('contained'));
          },
        }),
      ).rejects.toThrow('contained'),
      fixture.sh('sleep 0.5; for i in 1 2 3 4 5 6 7 8; do sh -c "echo $i"; done'),
    ]);
    expect(cooperative).toMatchObject({ exitCode: 3, timedOut: true, stdout: Buffer.from('bye\n') });
    expect(ignoring).toMatchObject({ exitCode: 137, signal: 'SIGKILL', timedOut: true });
    // The bomb did not use up the process limit of another key.
    expect(outside.stdout.toString()).toBe('1\n2\n3\n4\n5\n6\n7\n8\n');
    for (const mark of marks) expect(await processesWith(mark)).toEqual([]);
  });

  it('the sandbox ends a command whose caller disconnected', async () => {
    const mark = marker();
    const gone = new AbortController();
    const running = fixture.sh(`echo started; sleep ${mark}`, {
      signal: gone.signal,
      onOutput: () => gone.abort(new Error('gone')),
    });
    await expect(running).rejects.toThrow('gone');
    expect(await processesWith(mark)).toEqual([]);
  });

  it('the sandbox keeps 1 MiB of ten gigabytes and drops the rest without keeping it in memory', async () => {
    const before = process.memoryUsage().rss;
    const result = await fixture.sh('head -c 10000000000 /dev/zero', { timeoutMs: 2500 });
    expect(result.truncated).toBe(true);
    expect(result.stdout.length).toBe(1 << 20);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
  });

  it('the sandbox is the first choice of the out-of-memory killer, and does not change the gateway’s priority', async () => {
    const group = (): string => {
      // Where the scheduler has no such groups there is nothing to compare.
      try {
        return readFileSync('/proc/self/autogroup', 'utf8');
      } catch {
        return '';
      }
    };
    const before = group();
    const { stdout } = await fixture.sh('cat /proc/self/oom_score_adj');
    expect(stdout.toString()).toBe('1000\n');
    expect(group()).toBe(before);
  });

  it('the sandbox bounds memory, file size and open files', async () => {
    const { stdout } = await fixture.sh(`
      dd if=/dev/zero of=/tmp/big bs=1M seek=255 count=2 2>/dev/null; stat -c %s /tmp/big; rm /tmp/big
      head -c 80M /dev/zero 2>/dev/null > /dev/shm/big; test $(stat -c %s /dev/shm/big) -le 67108864 && echo shm
      dd if=/dev/zero of=/dev/null bs=2G count=1 2>/dev/null || echo memory
      ulimit -n`);
    expect(stdout.toString().split('\n')).toEqual([String(256 << 20), 'shm', 'memory', '1024', '']);
  });

  it('the sandbox kills a command that exceeds the workspace’s limit; later ones may delete, then write again', async () => {
    const small = await createSandboxFixture({ ...DISK_LIMITS, workspaceBytes: 8 << 20, checkMs: 50 });
    const flood = await small.sh('i=0; while true; do i=$((i + 1)); head -c 1M /dev/zero > /tmp/$i; sleep 0.02; done');
    expect(flood).toMatchObject({ exitCode: 137, timedOut: false });
    expect(flood.stderr.toString()).toContain('the workspace is full');
    expect((await small.sh('echo x > /tmp/more && cat /tmp/more')).exitCode).not.toBe(0);
    expect((await small.sh('rm /tmp/*; ls /tmp')).stdout.toString()).toBe('');
    expect((await small.sh('echo x > /tmp/more && cat /tmp/more')).stdout.toString()).toBe('x\n');
  });
});
