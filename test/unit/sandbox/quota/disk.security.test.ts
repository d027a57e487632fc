// A workspace stays within its share of the disk, however short the commands that write to it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DISK_LIMITS } from '../../../../shared/sandbox/limits.ts';
import { createUsageMeter } from '../../../../shared/sandbox/quota/disk-usage.ts';
import { openPty } from '../../../../shared/terminals/pty.ts';
import { createSandboxFixture, type SandboxFixture } from '../../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../../support/requirements.ts';

/** Limits that are never checked while a command runs. */
const UNWATCHED = { ...DISK_LIMITS, checkMs: 60_000 };
const MB = 1 << 20;

function bytesIn({ directory }: SandboxFixture): number {
  return Number.parseInt(execFileSync('du', ['-sB1', join(directory, 'workspaces')], { encoding: 'utf8' }), 10);
}

describeWith('bubblewrap', 'the disk of a workspace', () => {
  it('the disk of a workspace is measured when a command ends, so that no number of short ones gets past the limit', async () => {
    const fixture = await createSandboxFixture({ ...UNWATCHED, workspaceBytes: 8 * MB });
    const write = (name: number) => fixture.sh(`head -c 6M /dev/zero > /tmp/${name}`);
    const codes: number[] = [];
    for (let name = 0; name < 6; name++) codes.push((await write(name)).exitCode);
    expect(codes.map((code) => code === 0)).toEqual([true, true, false, false, false, false]);
    expect(bytesIn(fixture)).toBeLessThan(14 * MB);
    // Concurrent calls wait for the same measurement.
    const together = await Promise.all([6, 7, 8, 9].map(write));
    for (const { stderr, isFull } of together) {
      expect(isFull).toBe(true);
      expect(stderr.toString()).toMatch(/\nsandbox: the workspace is full.* delete something\n$/);
    }
    expect(bytesIn(fixture)).toBeLessThan(14 * MB);
    const server = fixture.sandbox.spawn({ keyId: 'a', argv: ['cat'] });
    await expect(server).rejects.toMatchObject({ reason: 'unavailable', data: { disk_full: true } });
    expect((await fixture.sh('head -c 1M /dev/zero > /tmp/other', { keyId: 'b' })).exitCode).toBe(0);
    expect(await fixture.sh('rm /tmp/*')).toMatchObject({ exitCode: 0, stderr: Buffer.alloc(0) });
    expect(await write(0)).toMatchObject({ exitCode: 0, isFull: false });
  });

  it('the disk of a workspace is not used up between two checks by space that is reserved but not written', async () => {
    const fixture = await createSandboxFixture({ ...UNWATCHED, workspaceBytes: 8 * MB });
    // struct space_resv: l_type, l_whence, l_start, l_len, ...
    const reserve = `
import fcntl, os, struct
for number in range(64):
    file = os.open(f'/tmp/{number}', os.O_RDWR | os.O_CREAT)
    for request in (0x40305828, 0x4030582a, 0x40305839):
        try: fcntl.ioctl(file, request, struct.pack('hhxxxxqqiI16x', 0, 0, 0, 64 << 20, 0, 0))
        except OSError as error: assert error.errno in (22, 95), error`;
    for (const script of ['fallocate -l 64M /tmp/one', `exec python3 -c "${reserve}"`]) {
      const { exitCode, stderr } = await fixture.sh(script);
      expect({ exitCode, stderr: stderr.toString() }).toEqual(
        script.startsWith('fallocate')
          ? { exitCode: 1, stderr: expect.stringContaining('not supported') }
          : { exitCode: 0, stderr: '' },
      );
    }
    expect(bytesIn(fixture)).toBeLessThan(2 * MB);
    // posix_fallocate(3) writes instead.
    const written = `import os; os.posix_fallocate(os.open('/tmp/x', os.O_RDWR | os.O_CREAT), 0, 1 << 20)`;
    expect((await fixture.sh(`python3 -c "${written}" && stat -c %s /tmp/x`)).stdout.toString()).toBe(`${MB}\n`);
  });

  it('the disk of a workspace counts the files that a terminal has created', async () => {
    const fixture = await createSandboxFixture({ ...UNWATCHED, workspaceBytes: 8 * MB });
    let output = '';
    const write = { keyId: 'a', argv: ['/bin/sh', '-c', 'head -c 9M /dev/zero > /tmp/x'] as const };
    const open = async () => {
      const pty = await openPty(SIZE, (tty) => fixture.sandbox.attach({ ...write, argv: [...write.argv] }, tty));
      pty.listen((text) => {
        output += text;
      });
      return pty;
    };
    await (await open()).exited;
    expect(output).toBe('');
    expect((await fixture.sh('echo x > /tmp/y && cat /tmp/y')).exitCode).not.toBe(0);
    await (await open()).exited;
    expect(output).toMatch(/^sandbox: the workspace is full.* delete something\r\n/);
  });

  it('the disk of a workspace is read-only but for rm once a full one grows further, by empty files', async () => {
    const fixture = await createSandboxFixture({ ...UNWATCHED, workspaceEntries: 150 });
    const make = (name: string) =>
      fixture.sh(`i=0; while [ $i -lt 160 ]; do : > /tmp/${name}$i || exit 1; i=$((i + 1)); done`);
    expect((await make('a')).exitCode).toBe(0);
    expect((await make('b')).exitCode).toBe(0);
    const refused = await make('c');
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr.toString()).toMatch(
      /\nsandbox: .* read-only until you delete something with rm or rmdir as the command\n$/,
    );
    const run = (...argv: [string, ...string[]]) =>
      fixture.sandbox.run(
        { keyId: 'a', argv, env: { PATH: '/tmp:/usr/bin:/bin' } },
        { signal: new AbortController().signal, timeoutMs: 30_000, outputBytesMax: MB },
      );
    expect((await run('touch', '/tmp/c')).exitCode).not.toBe(0);
    const names = Array.from({ length: 160 }, (_, index) => [`/tmp/a${index}`, `/tmp/b${index}`]).flat();
    expect(await run('rm', ...names)).toMatchObject({ exitCode: 0 });
    expect((await make('c')).exitCode).toBe(0);
  });

  it('the disk of a workspace counts files without a name while they are held, open or mapped', async () => {
    const fixture = await createSandboxFixture({ ...DISK_LIMITS, workspaceBytes: 8 * MB, checkMs: 50 });
    const open = 'exec 3<> /tmp/x; rm /tmp/x; head -c 9M /dev/zero >&3; sleep 30';
    const mapped = `
import mmap, os, time
file = open('/tmp/x', 'w+b'); os.remove('/tmp/x'); file.truncate(9 << 20)
held = mmap.mmap(file.fileno(), 0); os.closerange(3, 100)
held[:] = bytes(9 << 20); time.sleep(30)`;
    for (const script of [open, `exec python3 -c "${mapped}"`]) {
      const held = await fixture.sh(script);
      expect(held).toMatchObject({ exitCode: 137, timedOut: false, isFull: true });
      expect(await fixture.sh('echo x > ~/x && cat ~/x')).toMatchObject({ exitCode: 0 });
    }
  });

  it('the disk of a workspace is measured to the last byte: names that are not UTF-8, and one file under several names once', async () => {
    const { directory } = await createSandboxFixture();
    const timings = createUsageMeter();
    const at = join(directory, 'measured');
    mkdirSync(join(at, 'below'), { recursive: true });
    const empty = await timings.measure([at], 100);
    expect(empty).toMatchObject({ entries: 1, isComplete: true });
    writeFileSync(Buffer.concat([Buffer.from(`${at}/below/`), Buffer.from([0xff, 0xfe])]), Buffer.alloc(MB));
    execFileSync('ln', ['-s', '/usr', join(at, 'link')]);
    execFileSync('sh', ['-c', 'ln below/* other'], { cwd: at });
    const { bytes, ...rest } = await timings.measure([at, join(directory, 'missing')], 100);
    expect(rest).toMatchObject({ entries: 4, isComplete: true });
    expect(bytes - empty.bytes).toBeGreaterThanOrEqual(MB);
    expect(bytes - empty.bytes).toBeLessThan(1.1 * MB);
    expect(await timings.measure(['/usr'], 100)).toMatchObject({ isComplete: false });
    timings.close();
  });
});

const SIZE = { cols: 80, rows: 24 };
