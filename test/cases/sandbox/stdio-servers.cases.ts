// Every adapter of the StdioServers port passes the messages of a server on without loss, separates owners, and ends
// the processes of a server. Run against real sandboxes.
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import type { ServerProcess, StdioServer } from '../../../shared/mcp/stdio-servers.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { type CreatePortsFixture, freshMark } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { describeWith } from '../../support/requirements.ts';

const { signal } = new AbortController();
const shell = (script: string, env = {}): StdioServer => ({ command: '/bin/sh', args: ['-c', script], env });
const REGISTERED = {
  plain: { command: '/bin/sh', args: ['-c', 'cat ~/file; echo "$1"', 'sh', 'argument'] },
  trusted: { command: '/bin/sh', args: ['-c', 'cat ~/file; echo "$TOKEN"'], env: { TOKEN: 'registered' } },
  remote: { url: 'https://example.com/mcp' },
};

/** Reads both streams to their end. */
async function outputOf(server: ServerProcess) {
  const [stdout, stderr, { exitCode }] = await Promise.all([text(server.stdout), text(server.stderr), server.exited]);
  return { stdout, stderr, exitCode };
}

export function stdioServersCases(name: string, create: CreatePortsFixture): void {
  describeWith('bubblewrap', `servers over stdio ${name}`, async () => {
    const { commands, stdioServers } = (await (await create()).open({ servers: REGISTERED })).ports;
    const start = (server: StdioServer, owner = 'a') => stdioServers.start(owner, server, signal);

    it('servers over stdio receive and send lines, and end when their input ends', async () => {
      const server = await start(shell('echo ready; while read -r line; do echo "<$line>"; done; exit 5'));
      const answers: string[] = [];
      server.stdout.setEncoding('utf8').on('data', (data: string) => answers.push(data));
      server.stderr.resume();
      server.stdin.write('one\n');
      await expect.poll(() => answers.join('')).toBe('ready\n<one>\n');
      server.stdin.write('two\n');
      await expect.poll(() => answers.join('')).toBe('ready\n<one>\n<two>\n');
      server.stdin.end();
      expect(await server.exited).toEqual({ exitCode: 5 });
    });

    it('servers over stdio lose no byte of a flood in both directions, while its reader pauses', async () => {
      const server = await start(shell('cat'));
      server.stderr.resume();
      const sent = Buffer.from(Array.from({ length: 1 << 20 }, (_, index) => index % 251));
      server.stdin.end(sent);
      const received: Buffer[] = [];
      for await (const chunk of server.stdout) {
        received.push(chunk);
        await new Promise(setImmediate);
      }
      expect(Buffer.concat(received).equals(sent)).toBe(true);
      expect(await server.exited).toEqual({ exitCode: 0 });
    });

    it('servers over stdio give what they write to stderr apart from their output, and their exit code', async () => {
      const server = await start(shell('echo out; echo wrong >&2; exit 9'));
      expect(await outputOf(server)).toEqual({ stdout: 'out\n', stderr: 'wrong\n', exitCode: 9 });
      expect((await outputOf(await start({ command: 'no-such-program', args: [], env: {} }))).exitCode).toBe(127);
    });

    it('servers over stdio get the caller’s arguments and variables, and nothing of the gateway’s environment', async () => {
      const server = await start({ command: 'env', args: ['GIVEN=x y', 'env'], env: { TOKEN: 'of the caller' } });
      const { stdout } = await outputOf(server);
      expect(stdout).toContain('TOKEN=of the caller\n');
      expect(stdout).toContain('GIVEN=x y\n');
      const names = stdout
        .trim()
        .split('\n')
        .map((line) => line.split('=')[0]);
      const base = /^(TOKEN|GIVEN|PATH|HOME|USER|LOGNAME|SHELL|LANG|PWD|TERM|TMPDIR)$/;
      expect(names.filter((variable) => !base.test(variable ?? ''))).toEqual([]);
    });

    it('servers over stdio run in the workspace of their owner only', async () => {
      const options = { signal, timeoutMs: 10_000, outputBytesMax: 1_000 };
      await commands.run({ keyId: 'a', argv: ['/bin/sh', '-c', 'echo mine > ~/file'] }, options);
      expect((await outputOf(await start(shell('cat ~/file')))).stdout).toBe('mine\n');
      expect((await outputOf(await start(shell('cat ~/file'), 'b'))).stdout).toBe('');
    });

    it('servers over stdio that the administrator registered are found by name; one with secrets has a home of its own', async () => {
      const options = { signal, timeoutMs: 10_000, outputBytesMax: 1_000 };
      await commands.run({ keyId: 'a', argv: ['/bin/sh', '-c', 'echo mine > ~/file'] }, options);
      expect((await outputOf(await start({ registered: 'plain' }))).stdout).toBe('mine\nargument\n');
      expect((await outputOf(await start({ registered: 'trusted' }))).stdout).toBe('registered\n');
    });

    it.each(['missing', 'remote', '__proto__'])(
      'servers over stdio are not found by the name %s',
      async (registered) => {
        await expect(start({ registered })).rejects.toMatchObject({ reason: 'not_found' });
      },
    );

    it('servers over stdio end with all that they started: at TERM, else by KILL after the time that is given', async () => {
      const mark = freshMark();
      const polite = await start(shell(`trap 'exit 3' TERM; (setsid sleep ${mark}1 &) ; echo; sleep ${mark}2 & wait`));
      const stubborn = await start(shell(`trap '' TERM; echo; while :; do sleep 0.1 ${mark}; done`));
      await Promise.all([polite, stubborn].map(({ stdout }) => once(stdout, 'data')));
      await Promise.all([polite.kill(), stubborn.kill(100)]);
      expect(await polite.exited).toEqual({ exitCode: 3 });
      expect(await stubborn.exited).toEqual({ exitCode: 137 });
      expect(await processesWith(mark)).toEqual([]);
      // Without effect after the end.
      await polite.kill();
    });

    it('servers over stdio end at once by KILL without a time', async () => {
      const server = await start(shell(`trap '' TERM; echo; while :; do sleep 0.1; done`));
      await once(server.stdout, 'data');
      await server.kill(0);
      expect(await server.exited).toEqual({ exitCode: 137 });
    });

    it('servers over stdio end if their caller disconnects while they start, and keep running after the call that started them', async () => {
      const mark = freshMark();
      const reason = new Error('gone');
      const sleep: StdioServer = { command: 'sleep', args: [mark], env: {} };
      await expect(stdioServers.start('a', sleep, AbortSignal.abort(reason))).rejects.toBe(reason);
      const leave = new AbortController();
      const starting = stdioServers.start('a', sleep, leave.signal);
      leave.abort(reason);
      await expect(starting).rejects.toBe(reason);
      expect(await processesWith(mark)).toEqual([]);
      const call = new AbortController();
      const server = await stdioServers.start('a', shell('read -r line; echo "$line"'), call.signal);
      call.abort(reason);
      server.stdin.write('still here\n');
      expect((await outputOf(server)).stdout).toBe('still here\n');
    });

    it('servers over stdio are refused with arguments that the kernel refuses', async () => {
      const server = { command: 'true', args: ['x'.repeat(200_000)], env: {} };
      await expect(start(server)).rejects.toMatchObject({ reason: 'invalid_params' });
    });

    it('servers over stdio are bounded per owner, so that another one has a place', async () => {
      const cat: StdioServer = { command: 'cat', args: [], env: {} };
      const started = await Promise.allSettled(Array.from({ length: 20 }, () => start(cat, 'greedy')));
      const refused = started.flatMap((one) => (one.status === 'rejected' ? one.reason : []));
      expect(refused.length).toBe(4);
      for (const error of refused) expect(error).toMatchObject({ reason: 'unavailable' });
      const other = await start(cat, 'other');
      await Promise.all([other.kill(0), ...started.map((one) => one.status === 'fulfilled' && one.value.kill(0))]);
    });
  });

  describe(`servers over stdio ${name}, without a sandbox`, async () => {
    const { stdioServers } = (await (await create({ hasSandbox: false })).open()).ports;

    it('servers over stdio are refused without a sandbox, with what is missing', async () => {
      await expect(stdioServers.start('a', shell('true'), signal)).rejects.toMatchObject({
        reason: 'sandbox_unavailable',
        data: { hint: expect.any(String) },
      });
    });
  });
}
