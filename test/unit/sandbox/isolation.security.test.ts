// Processes of two owners share nothing, in each way to start them. Checked from inside, with terminals of both open.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Sandbox, SandboxSpec } from '../../../shared/sandbox/sandbox.ts';
import { openPty, type Pty } from '../../../shared/terminals/pty.ts';
import { ROOT } from '../../support/fixtures/gateway/local-gateway.ts';
import { CALLS, EXPECTED, PROBE } from '../../support/fixtures/isolation/isolation-probe.ts';
import { createSandboxFixture, processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

const SIZE = { cols: 200, rows: 24 };

type Way = (sandbox: Sandbox, keyId: string, script: string) => Promise<string>;

const spawned =
  (more: Partial<SandboxSpec>): Way =>
  async (sandbox, keyId, script) => {
    const child = await sandbox.spawn({ keyId, argv: ['/bin/sh', '-c', script], ...more });
    child.stdin.end();
    const [output] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
    return output;
  };

const WAYS: Readonly<Record<string, Way>> = {
  async command(sandbox, keyId, script) {
    const options = { signal: new AbortController().signal, timeoutMs: 30_000, outputBytesMax: 1 << 20 };
    return (await sandbox.run({ keyId, argv: ['/bin/sh', '-c', script] }, options)).stdout.toString();
  },
  async terminal(sandbox, keyId, script) {
    const spec: SandboxSpec = { keyId, argv: ['/bin/sh', '-c', script] };
    const pty = await openPty(SIZE, (tty) => sandbox.attach(spec, tty));
    let output = '';
    pty.listen((more) => {
      output += more;
    });
    await pty.exited;
    return output.replaceAll('\r', '');
  },
  'stdio MCP server of a caller': spawned({ env: { TOKEN: 'x' } }),
  'stdio MCP server of the administrator': spawned({
    env: { TOKEN: 'x' },
    network: true,
    readOnly: [{ from: join(ROOT, 'test/support/fakes'), to: '/opt/fakes' }],
  }),
};

describeWith('bubblewrap', 'two owners', async () => {
  const { sandbox, directory } = await createSandboxFixture();
  const terminals: Pty[] = [];
  beforeAll(async () => {
    for (const keyId of ['a', 'b', 'a', 'b']) {
      const spec: SandboxSpec = { keyId, argv: ['cat'] };
      const pty = await openPty(SIZE, (tty) => sandbox.attach(spec, tty));
      pty.listen(() => {});
      terminals.push(pty);
    }
  });
  afterAll(async () => {
    for (const pty of terminals) pty.kill();
    await Promise.all(terminals.map((pty) => pty.exited));
  });

  it.each(Object.entries(WAYS))(
    'two owners share no descriptor, keyring or process, and can lower no score: %s',
    async (_, way) => {
      for (const keyId of ['a', 'b']) {
        const output = await way(sandbox, keyId, PROBE);
        expect(output.trimEnd().split('\n')).toEqual(EXPECTED);
      }
    },
  );

  it('two owners see no kernel key of the session that started the gateway', () => {
    const name = `canary-${process.pid}`;
    // Joins a session keyring of its own, adds a key to it, and becomes the program: the key exists as long as it runs.
    const inSession = `syscall(${CALLS.keyctl}, 1, 0) < 0 and die; @a = ("user", "${name}", "secret", 6, -3);
      syscall(${CALLS.add_key}, @a) < 0 and die; exec @ARGV`;
    const run = (argv: readonly string[]): string =>
      execFileSync('perl', ['-e', inSession, ...argv], { encoding: 'utf8' });
    expect(run(['cat', '/proc/keys'])).toContain(name);
    const own = mkdtempSync(join(tmpdir(), 'sandbox-session-'));
    try {
      const program = join(import.meta.dirname, '../../support/fixtures/isolation/isolation-main.ts');
      const shown = run([process.execPath, program, own, 'cat /proc/keys; echo shown']);
      expect(shown.match(/shown/g)).toHaveLength(3);
      expect(shown).not.toContain(name);
    } finally {
      rmSync(own, { recursive: true, force: true });
    }
  });

  it('no command line shows environment or paths of the machine', async () => {
    const secret = `secret-${process.pid}-${Date.now()}`;
    const readOnly = [{ from: join(ROOT, 'test/support/fakes'), to: '/opt/fakes' }];
    const child = await sandbox.spawn({ keyId: 'a', argv: ['/bin/cat'], env: { TOKEN: secret }, readOnly });
    child.stdin.write('x');
    const shown = new Promise((resolve) => child.stdout.once('data', resolve));
    await shown;
    expect(await processesWith(secret)).toEqual([]);
    expect((await processesWith(directory)).filter((line) => line.includes('bwrap\0'))).toEqual([]);
    await child.kill();
  });

  it('two owners are isolated in the same way where the gateway is not root', () => {
    const other = mkdtempSync(join(tmpdir(), 'sandbox-user-'));
    const isRoot = process.getuid?.() === 0;
    try {
      if (isRoot) chownSync(other, 65534, 65534);
      const program = join(import.meta.dirname, '../../support/fixtures/isolation/isolation-main.ts');
      const user = isRoot ? { uid: 65534, gid: 65534 } : {};
      const env = { PATH: process.env.PATH ?? '' };
      const ran = spawnSync(process.execPath, [program, other, PROBE], { ...user, env, encoding: 'utf8', cwd: '/' });
      expect(ran.stderr).toBe('');
      const [plain = '', shown = '', terminal = ''] = JSON.parse(ran.stdout);
      for (const output of [plain, shown, terminal]) expect(output.trimEnd().split('\n')).toEqual(EXPECTED);
    } finally {
      rmSync(other, { recursive: true, force: true });
    }
  });

  it.runIf(process.getuid?.() === 0)(
    'two owners are separated where root cannot start bwrap under their uids',
    async () => {
      // A bwrap that only root can reach.
      const barred = mkdtempSync(join(tmpdir(), 'sandbox-barred-'));
      chmodSync(barred, 0o700);
      execFileSync('cp', ['/usr/bin/bwrap', barred]);
      try {
        const fallback = await createSandboxFixture(undefined, undefined, barred);
        for (const way of Object.values(WAYS)) {
          const output = await way(fallback.sandbox, 'a', PROBE);
          expect(output.trimEnd().split('\n')).toEqual(EXPECTED);
        }
      } finally {
        rmSync(barred, { recursive: true, force: true });
      }
    },
  );
});
