// The sandbox runs long-running children, mounts the administrator's paths, recovers when directories are removed, and
// shares its slots fairly.
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as immediately } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createSlots, LONG_SLOTS, SHORT_SLOTS } from '../../../shared/bounds/slots.ts';
import { checkEnvironment } from '../../../shared/sandbox/commands/environment.ts';
import { createSandboxFixture, processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('bubblewrap', 'the sandbox', async () => {
  const fixture = await createSandboxFixture();

  it('the sandbox exchanges data with a long-running child and ends its whole process tree', async () => {
    const mark = `${200_000 + Math.floor(Math.random() * 1e8)}.${process.pid}`;
    const child = await fixture.sandbox.spawn({ keyId: 'a', argv: ['sh', '-c', `setsid sleep ${mark} & cat`] });
    child.stdin.write('ping\n');
    const [answer] = await once(child.stdout, 'data');
    expect(String(answer)).toBe('ping\n');
    expect(await processesWith(mark)).not.toEqual([]);
    await child.kill();
    expect(await processesWith(mark)).toEqual([]);
  });

  it('the sandbox erases a workspace with the processes in it, also one that is just being started', async () => {
    const [mark, starting] = [`${300_000 + process.pid}.1`, `${300_000 + process.pid}.2`];
    const child = await fixture.sandbox.spawn({ keyId: 'e', argv: ['sh', '-c', `echo x > ~/file; sleep ${mark}`] });
    const started = fixture.sandbox.spawn({ keyId: 'e', argv: ['sleep', starting] });
    await fixture.sandbox.erase('e');
    await Promise.all([child.exited, (await started).exited]);
    expect([...(await processesWith(mark)), ...(await processesWith(starting))]).toEqual([]);
    const workspaces = await readdir(join(fixture.directory, 'workspaces'));
    expect(workspaces.filter((name) => name.startsWith('removed'))).toEqual([]);
  });

  it('the sandbox starts no process after it was closed, also if the call was made before', async () => {
    const { sandbox, sh, directory } = await createSandboxFixture();
    await sh('true');
    const mark = `${300_000 + process.pid}.3`;
    const workspaces = (): number => readdirSync(join(directory, 'workspaces')).length;
    const present = workspaces();
    const started = sandbox.spawn({ keyId: 'c', argv: ['sleep', mark] });
    const refused = expect(started).rejects.toMatchObject({ reason: 'unavailable' });
    while (workspaces() === present) await immediately();
    await sandbox.close();
    await refused;
    expect(await processesWith(mark)).toEqual([]);
  });

  it('the sandbox mounts the administrator’s paths read-only, at their place', async () => {
    const tools = join(fixture.directory, 'tools');
    await mkdir(tools);
    await writeFile(join(tools, 'data.txt'), 'shown');
    const child = await fixture.sandbox.spawn({
      keyId: 'a',
      argv: ['sh', '-c', `cat ${tools}/data.txt; echo x > ${tools}/data.txt || echo refused; ls ${fixture.directory}`],
      readOnly: [{ from: tools, to: tools }],
    });
    let text = '';
    child.stdout.on('data', (bytes) => {
      text += bytes;
    });
    child.stderr.resume();
    await child.exited;
    expect(text).toBe('shownrefused\ntools\n');
  });

  it('the sandbox returns 503 when the workspaces’ directory was removed, and creates a removed workspace again', async () => {
    const { sandbox, directory, sh } = await createSandboxFixture();
    expect(await sh('echo x > ~/file')).toMatchObject({ exitCode: 0 });
    const workspaces = join(directory, 'workspaces');
    for (const name of await readdir(workspaces))
      if (name !== 'etc') await rm(join(workspaces, name), { recursive: true });
    expect((await sh('ls ~')).stdout.toString()).toBe('');
    await rm(workspaces, { recursive: true });
    const gone = {
      reason: 'unavailable',
      message: expect.stringContaining('data directory of the gateway is missing'),
    };
    await expect(sh('true')).rejects.toMatchObject(gone);
    await mkdir(workspaces);
    await expect(sandbox.attach({ keyId: 'a', argv: ['true'] }, '/dev/null')).rejects.toMatchObject(gone);
  });
});

describe('slots', () => {
  it('slots start the next call when one is released, and skip a key at its limit', async () => {
    const slots = createSlots({ perKey: 1, total: 2, waiting: 2, waitMs: 60_000 });
    const releaseA = await slots.acquire('a');
    const order: string[] = [];
    const second = slots.acquire('a').then((release) => {
      order.push('a');
      return release;
    });
    const releaseB = await slots.acquire('b');
    const third = slots.acquire('c').then((release) => {
      order.push('c');
      return release;
    });
    releaseB();
    const releaseC = await third;
    releaseA();
    (await second)();
    releaseC();
    expect(order).toEqual(['c', 'a']);
  });

  it('slots refuse with 503 when the queue is full, and after the wait', async () => {
    const slots = createSlots({ perKey: 1, total: 1, waiting: 1, waitMs: 20 });
    const release = await slots.acquire('a');
    const waiting = slots.acquire('a');
    await expect(slots.acquire('b')).rejects.toMatchObject({ reason: 'unavailable', retryAfterMs: 1000 });
    await expect(waiting).rejects.toMatchObject({ reason: 'unavailable' });
    release();
    (await slots.acquire('b'))();
  });

  it('slots give one key at most half of the running and half of the waiting places', async () => {
    for (const { perKey, total } of [SHORT_SLOTS, LONG_SLOTS]) expect(perKey).toBeLessThanOrEqual(total / 2);
    const { perKey, waiting } = SHORT_SLOTS;
    const slots = createSlots(SHORT_SLOTS);
    const calls = Array.from({ length: perKey + waiting + 10 }, () => slots.acquire('a'));
    const settled = calls.map((call) =>
      call.then(
        (release) => release,
        () => undefined,
      ),
    );
    // Another key starts at once, and when its running places are taken, a waiting place is still free for it.
    const others = await Promise.all(Array.from({ length: perKey }, () => slots.acquire('b')));
    const order: string[] = [];
    const waits = [slots.acquire('b').then(() => order.push('b')), slots.acquire('c').then(() => order.push('c'))];
    const refused = (await Promise.all(settled.slice(perKey + waiting / 2))).filter((release) => release === undefined);
    expect(refused).toHaveLength(waiting / 2 + 10);
    // The key with the fewest running comes first, however long the others have waited.
    const release = await settled[0];
    release?.();
    for (const each of others) each();
    await Promise.all(waits);
    expect(order).toEqual(['c', 'b']);
  });

  it('slots go to the waiting keys in turns', async () => {
    const slots = createSlots({ perKey: 1, total: 1, waiting: 8, waitMs: 60_000 });
    const order: string[] = [];
    const calls = ['a', 'a', 'a', 'b', 'b', 'c'].map(async (key) => {
      const release = await slots.acquire(key);
      order.push(key);
      release();
    });
    await Promise.all(calls);
    expect(order.join('')).toBe('abcaba');
  });

  it('slots remove a caller that stopped waiting', async () => {
    const slots = createSlots({ perKey: 1, total: 1, waiting: 1, waitMs: 60_000 });
    const release = await slots.acquire('a');
    const gone = new AbortController();
    const waiting = slots.acquire('a', gone.signal);
    gone.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    release();
    (await slots.acquire('a'))();
  });
});

describe('the environment of a caller', () => {
  it.each([
    'LD_PRELOAD',
    'LD_LIBRARY_PATH',
    'NODE_OPTIONS',
    'BASH_ENV',
    'PYTHONSTARTUP',
    'GIT_SSH_COMMAND',
    'PERL5OPT',
    'IFS',
  ])('the environment of a caller may not hold %s', (name) => {
    expect(checkEnvironment({ [name]: 'x' })).toEqual([
      { path: `env.${name}`, message: expect.stringContaining('may not be set') },
    ]);
  });

  it('the environment of a caller may contain names of its own, and the author of a commit', () => {
    expect(checkEnvironment({ ENV_VAR: 'value', GIT_AUTHOR_NAME: 'A', TERM: 'xterm', PATH: '/tmp' })).toEqual([]);
  });

  it('the environment of a caller must not contain invalid names, NUL or too many bytes', () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`V${index}`, 'x']));
    for (const env of [
      { 'A=B': 'x' },
      { '': 'x' },
      { 'BASH_FUNC_x%%': '() { :; }' },
      { A: 'a\0b' },
      { A: 'x'.repeat(40_000) },
      many,
    ]) {
      expect(checkEnvironment(env)).toHaveLength(1);
    }
  });
});
