// Every adapter of the Commands port runs a command with its exact input and output, within its limits, and leaves no
// process. Run against real sandboxes.
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import type { Command, RunOptions } from '../../../shared/sandbox/commands.ts';
import { DISK_LIMITS } from '../../../shared/sandbox/limits.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { type CreatePortsFixture, freshMark } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { describeWith } from '../../support/requirements.ts';

type Argv = readonly [string, ...string[]];

const options = (): RunOptions => ({
  signal: new AbortController().signal,
  timeoutMs: 20_000,
  outputBytesMax: 1 << 20,
});
const shell = (script: string): Argv => ['/bin/sh', '-c', script];

/** Shared memory that is in no process's private memory: memfds, filled one after the other. */
const MEMFDS = `
import os
held = []
while True:
    fd = os.memfd_create('x')
    for _ in range(8): os.write(fd, bytes(1 << 20))
    held.append(fd)
`;

export function commandsCases(name: string, create: CreatePortsFixture): void {
  describeWith('bubblewrap', `commands ${name}`, async () => {
    const { commands } = (await (await create()).open()).ports;
    const run = (argv: Argv, more: Partial<RunOptions> & { readonly keyId?: string } = {}) => {
      const { keyId = 'a', ...rest } = more;
      return commands.run({ keyId, argv }, { ...options(), ...rest });
    };

    it('commands can be run', async () => {
      expect(await commands.available()).toMatchObject({ ok: true });
    });

    it('commands get their exact arguments, input and environment, and return their exact output bytes', async () => {
      const argv: Argv = [
        ...shell('pwd; printf "%s|" "$@" "$A" "$HOME" "$USER"; cat; printf "\\377" >&2; exit 7'),
        ...['$(x)', 'b c', '*', ''],
      ];
      const command = { keyId: 'a', argv, cwd: '/tmp', env: { A: 'x "y" $z' } };
      const result = await commands.run(command, { ...options(), stdin: 'input' });
      expect(result.stdout.toString()).toBe('/tmp\nb c|*||x "y" $z|/home/user|user|input');
      expect(result).toMatchObject({
        stderr: Buffer.of(0xff),
        exitCode: 7,
        signal: undefined,
        timedOut: false,
        truncated: false,
        durationMs: expect.any(Number),
      });
    });

    it('commands get an environment that contains nothing of the gateway’s', async () => {
      const { stdout } = await commands.run({ keyId: 'a', argv: ['env'], env: { GIVEN: '1' } }, options());
      const names = stdout
        .toString()
        .trim()
        .split('\n')
        .map((line) => line.split('=')[0]);
      expect(names).toContain('GIVEN');
      expect(
        names.filter((variable) => !/^(GIVEN|PATH|HOME|USER|LOGNAME|SHELL|LANG|PWD|TERM|TMPDIR)$/.test(variable ?? '')),
      ).toEqual([]);
    });

    it('commands end with exit codes as a shell gives them: not found 127, not executable 126, killed 128 + n', async () => {
      const [missing, data, killed] = await Promise.all([
        run(['no-such-program']),
        run(['/etc/passwd']),
        run(['sh', '-c', 'kill -SEGV $$']),
      ]);
      expect(missing.exitCode).toBe(127);
      expect(missing.stderr.toString()).toContain('no-such-program');
      expect(data.exitCode).toBe(126);
      expect(killed).toMatchObject({ exitCode: 139, signal: 'SIGSEGV' });
    });

    it('commands are refused in a directory that does not exist, and with arguments that the kernel refuses', async () => {
      await expect(commands.run({ keyId: 'a', argv: ['true'], cwd: '/nope' }, options())).rejects.toMatchObject({
        reason: 'invalid_params',
        data: { issues: [{ path: 'cwd' }] },
      });
      await expect(run(['true', 'x'.repeat(200_000)])).rejects.toMatchObject({
        reason: 'invalid_params',
        data: { issues: [{ path: 'args' }] },
      });
    });

    it('commands read binary input to its end, and none when there is none', async () => {
      const stdin = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 256));
      const echoed = await run(['cat'], { stdin });
      expect(echoed.stdout.equals(stdin)).toBe(true);
      expect(await run(['cat'])).toMatchObject({ exitCode: 0, stdout: Buffer.alloc(0) });
      // A command that does not read its input.
      expect(await run(['true'], { stdin })).toMatchObject({ exitCode: 0 });
    });

    it('commands keep the first bytes of each stream up to the bound, and run on', async () => {
      const script = 'head -c 300000 /dev/zero; head -c 100 /dev/zero >&2; echo x > ~/went-on';
      const result = await run(shell(script), { outputBytesMax: 1_000 });
      expect(result).toMatchObject({ exitCode: 0, truncated: true });
      expect([result.stdout.length, result.stderr.length]).toEqual([1_000, 100]);
      expect(await run(shell('cat ~/went-on'))).toMatchObject({ stdout: Buffer.from('x\n'), truncated: false });
    });

    it('commands send their output while they run, each piece when the last one is taken', async () => {
      const seen: string[] = [];
      let isTaking = false;
      let takenBytes = 0;
      const taken = Promise.withResolvers<void>();
      // Runs until all output was taken: after its end, the rest is passed without waiting.
      const script = 'echo one; echo two >&2; cat; head -c 500000 /dev/zero; until [ -e taken ]; do sleep 0.02; done';
      const running = run(shell(script), {
        stdin: 'three\n',
        async onOutput(stream, bytes) {
          if (stream === 'stdout') {
            expect(isTaking).toBe(false);
            isTaking = true;
            await new Promise(setImmediate);
            isTaking = false;
          }
          seen.push(`${stream} ${bytes.toString('latin1')}`);
          takenBytes += bytes.length;
          if (takenBytes === 'one\ntwo\nthree\n'.length + 500_000) taken.resolve();
        },
      });
      await Promise.race([taken.promise, running]);
      await run(shell('touch taken'));
      const { stdout, stderr } = await running;
      const of = (stream: string) =>
        seen.flatMap((piece) => (piece.startsWith(`${stream} `) ? piece.slice(stream.length + 1) : [])).join('');
      expect(of('stdout')).toBe(stdout.toString('latin1'));
      expect(of('stderr')).toBe(stderr.toString('latin1'));
      expect(seen.length).toBeGreaterThan(3);
    });

    it('commands are ended at their time with all that they started, by TERM and then by KILL', async () => {
      const mark = freshMark();
      // Long enough for the shells to set their traps on a busy machine.
      const timeoutMs = 2_500;
      const polite = run(shell(`trap 'echo term; exit 3' TERM; sleep ${mark}1 & wait`), { timeoutMs });
      const stubborn = run(shell(`trap '' TERM; setsid sleep ${mark}2 & while :; do sleep 0.1; done`), {
        timeoutMs,
      });
      expect(await polite).toMatchObject({ timedOut: true, exitCode: 3, stdout: Buffer.from('term\n') });
      expect(await stubborn).toMatchObject({ timedOut: true, exitCode: 137, signal: 'SIGKILL' });
      expect(await processesWith(mark)).toEqual([]);
    });

    it('commands are ended when the caller has left, and reject with the reason', async () => {
      const mark = freshMark();
      const leave = new AbortController();
      const reason = new Error('gone');
      const running = run(shell(`echo started; sleep ${mark}`), {
        signal: leave.signal,
        onOutput: () => leave.abort(reason),
      });
      await expect(running).rejects.toBe(reason);
      expect(await processesWith(mark)).toEqual([]);
      await expect(run(['sleep', mark], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      expect(await processesWith(mark)).toEqual([]);
    });

    it('commands share a home and a /tmp with the other commands of their key, and with no other key', async () => {
      await run(shell('echo mine > ~/file; echo mine > /tmp/file'), { keyId: 'one' });
      const look = shell('cat ~/file /tmp/file');
      expect((await run(look, { keyId: 'one' })).stdout.toString()).toBe('mine\nmine\n');
      expect(await run(look, { keyId: 'two' })).toMatchObject({ exitCode: 1, stdout: Buffer.alloc(0) });
    });

    it('commands have no right that the port does not name', async () => {
      const more = { readOnly: [{ from: '/', to: '/mnt' }], network: true, nested: true };
      const command: Command = { keyId: 'a', argv: shell('ls /mnt/etc; tail -n +3 /proc/net/dev | wc -l'), ...more };
      const { stdout, stderr } = await commands.run(command, options());
      expect(stderr.toString()).toContain('/mnt/etc');
      // Of the interfaces, only the loopback.
      expect(stdout.toString().trim()).toBe('1');
    });

    it('commands of one key start at once while another key has more of them than may run', async () => {
      const leave = new AbortController();
      const flood = Array.from({ length: 60 }, () => run(['sleep', '60'], { keyId: 'flood', signal: leave.signal }));
      const ends = Promise.allSettled(flood);
      expect((await run(['echo', 'here'], { keyId: 'other' })).stdout.toString()).toBe('here\n');
      leave.abort();
      for (const { status } of await ends) expect(status).toBe('rejected');
    });
  });

  describeWith('bubblewrap', `commands ${name}, in a workspace that is full`, async () => {
    const limits = { ...DISK_LIMITS, workspaceBytes: 4 << 20, checkMs: 60_000 };
    const { commands } = (await (await create({ disk: limits })).open()).ports;

    it('commands in a full workspace cannot write, and stderr names the reason', async () => {
      const write = { keyId: 'a', argv: shell('head -c 6M /dev/zero > /tmp/large') };
      await commands.run(write, options());
      const { isFull, exitCode, stderr } = await commands.run(write, options());
      expect([isFull, exitCode === 0]).toEqual([true, false]);
      expect(stderr.toString()).toMatch(/\nsandbox: .*delete something/);
      expect(await commands.run({ keyId: 'b', argv: write.argv }, options())).toMatchObject({ exitCode: 0 });
    });

    it('commands in a full workspace cannot exceed its limit, however many they are', async () => {
      const codes: number[] = [];
      for (let name = 0; name < 5; name++) {
        const argv = shell(`head -c 3M /dev/zero > /tmp/${name}`);
        codes.push((await commands.run({ keyId: 'c', argv }, options())).exitCode);
      }
      expect(codes.map((code) => code === 0)).toEqual([true, true, false, false, false]);
    });
  });

  describeWith('memory', `commands ${name}, with less memory than they take`, async () => {
    const { commands, stdioServers } = (await (await create({ ownerMemoryBytes: 96 << 20 })).open()).ports;

    it('commands above the memory limit are killed, shared memory included, and report it; those of other keys continue', async () => {
      const { signal } = options();
      const other = await stdioServers.start('b', { command: 'cat', args: [], env: {} }, signal);
      const killed = await commands.run({ keyId: 'a', argv: ['/usr/bin/python3', '-c', MEMFDS] }, options());
      expect(killed).toMatchObject({ exitCode: 137, timedOut: false });
      expect(killed.stderr.toString()).toMatch(/\nsandbox: a process was killed.* \d+ MB of memory\n$/);
      other.stdin.end('still\n');
      expect(await text(other.stdout)).toBe('still\n');
    });
  });

  describe(`commands ${name}, without a sandbox`, async () => {
    const { commands } = (await (await create({ hasSandbox: false })).open()).ports;

    it('commands are refused without a sandbox, with what is missing', async () => {
      const state = await commands.available();
      expect(state).toMatchObject({ ok: false, reason: expect.any(String), hint: expect.any(String) });
      await expect(commands.run({ keyId: 'a', argv: ['true'] }, options())).rejects.toMatchObject({
        reason: 'sandbox_unavailable',
        data: { disabled_by: 'deployment', hint: expect.any(String) },
      });
    });
  });
}
