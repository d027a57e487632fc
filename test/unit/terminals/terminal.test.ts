// The terminals of the manager: their owners, limits and ends, and the handling of a slow watcher.
import { expect, it } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import { createBubblewrapSandbox } from '../../../shared/sandbox/bubblewrap.ts';
import type { Terminal, Watcher } from '../../../shared/terminals/terminal.ts';
import { createTerminals, type Terminals, type TerminalsOptions } from '../../../shared/terminals/terminals.ts';
import { createSandboxFixture, processesWith } from '../../support/fixtures/sandbox.ts';
import { untilStable } from '../../support/fixtures/until-stable.ts';
import { describeWith } from '../../support/requirements.ts';

const REQUEST = { shell: '/bin/sh', cwd: undefined, env: {}, requestId: 'req_1' };
const HANDLE = { owner: 'a', sessionId: 's' };

/** A watcher that records its calls, and can wait for a text. */
function listen(terminal: Terminal, afterSeq = 0) {
  let text = '';
  let seq = 0;
  let missed = false;
  const changed = new Set<() => void>();
  const exited = Promise.withResolvers<number>();
  const watcher: Watcher = {
    output(piece) {
      text += piece.data;
      seq = piece.seq;
      missed ||= piece.missed;
      for (const check of changed) check();
    },
    exit: exited.resolve,
  };
  const leave = terminal.watch(watcher, afterSeq);
  return {
    leave,
    exited: exited.promise,
    text: () => text,
    seq: () => seq,
    missed: () => missed,
    until: (pattern: RegExp) =>
      new Promise<void>((resolve) => {
        const check = (): void => {
          if (!pattern.test(text)) return;
          changed.delete(check);
          resolve();
        };
        changed.add(check);
        check();
      }),
  };
}

describeWith('bubblewrap', 'terminals', async () => {
  const { sandbox } = await createSandboxFixture();
  const logged: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const create = (options?: TerminalsOptions): Terminals => createTerminals({ sandbox, log }, options);

  it('ends 60 s (here 150 ms) after the last watcher left, and not while one watches', async () => {
    const terminals = create({ leftMs: 150 });
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const first = listen(terminal);
    const second = listen(terminal);
    first.leave();
    let hasEnded = false;
    void terminal.exited.then(() => {
      hasEnded = true;
    });
    // Another terminal, left later and watched by no one, ends after the time is over.
    const later = await terminals.start({ ...HANDLE, sessionId: 'later' }, REQUEST);
    await later.terminal.exited;
    expect(hasEnded).toBe(false);
    second.leave();
    await terminal.exited;
    await expect(terminals.input(HANDLE, 'x')).rejects.toMatchObject({ reason: 'not_found' });
  });

  it('ends a terminal that never had a watcher', async () => {
    const terminals = create({ leftMs: 50 });
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    await terminal.exited;
  });

  it('ends after 15 min (here 200 ms) without input and output', async () => {
    const terminals = create({ idleMs: 200 });
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const watching = listen(terminal);
    expect(await watching.exited).toBeGreaterThan(128);
  });

  it('leaves no process behind that was started in it, daemons included', async () => {
    const terminals = create();
    const marker = `${300_000 + Math.floor(Math.random() * 1e8)}`;
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const watching = listen(terminal);
    await terminals.input(
      HANDLE,
      `setsid sleep ${marker}.1 & nohup sleep ${marker}.2 & (sleep ${marker}.3 &) ; echo st''arted\r`,
    );
    await watching.until(/started/);
    const sleeping = async () => (await processesWith(marker)).filter((line) => line.startsWith('sleep')).length;
    await expect.poll(sleeping, { timeout: 10_000 }).toBe(3);
    await terminals.close(HANDLE);
    expect(await processesWith(marker)).toEqual([]);
    expect(logged.join('')).toMatch(/"method":"interactive.start","argv":\["\/bin\/sh"\]/);
    expect(logged.join('')).not.toContain(marker);
  });

  it('terminals are bounded per key and in total, and their places are free again after they end', async () => {
    const terminals = create({ perKeyMax: 2, totalMax: 3 });
    const start = (owner: string, sessionId: string) => terminals.start({ owner, sessionId }, REQUEST);
    const made = await Promise.allSettled(['1', '2', '3'].map((sessionId) => start('a', sessionId)));
    expect(made.map(({ status }) => status).sort()).toEqual(['fulfilled', 'fulfilled', 'rejected']);
    await start('b', '1');
    await expect(start('c', '1')).rejects.toMatchObject({ reason: 'unavailable' });
    await terminals.close({ owner: 'b', sessionId: '1' });
    await start('c', '1');
    await terminals.drain();
    await expect(start('d', '1')).rejects.toMatchObject({ reason: 'unavailable' });
  });

  it('returns one terminal to concurrent calls for one session', async () => {
    const terminals = create();
    const made = await Promise.all([1, 2, 3].map(() => terminals.start(HANDLE, { ...REQUEST, cols: 100 })));
    expect(new Set(made.map(({ terminal }) => terminal)).size).toBe(1);
    expect(made.map(({ resumed }) => resumed)).toEqual([false, true, true]);
    expect(made[0]?.terminal.size).toEqual({ cols: 100, rows: 24 });
    await terminals.drain();
  });

  it('starts a new terminal under the name of one that is closing', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const closing = terminals.close(HANDLE);
    const next = await terminals.start(HANDLE, REQUEST);
    expect(next.resumed).toBe(false);
    await closing;
    await terminal.exited;
    await terminals.input(HANDLE, 'echo still here\r');
    await terminals.drain();
  });

  it('blocks its program until its only watcher has read, which misses no output', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const gate = Promise.withResolvers<void>();
    let text = '';
    const over = Promise.withResolvers<void>();
    terminal.watch(
      {
        async output(piece) {
          expect(piece.missed).toBe(false);
          text += piece.data;
          if (text.includes('seq')) await gate.promise;
          if (text.includes('done')) over.resolve();
        },
        exit() {},
      },
      0,
    );
    await terminals.input(HANDLE, "seq 100000; echo d''one\r");
    await expect.poll(() => terminal.lastSeq, { timeout: 5_000 }).toBeGreaterThan(5);
    // The output is larger than the buffer of the terminal: read to its end now, it would miss a part.
    await untilStable(() => terminal.lastSeq);
    gate.resolve();
    await over.promise;
    const numbers = text.match(/(?<!\d)\d+(?=\r\n)/g) ?? [];
    expect(numbers).toHaveLength(100_000);
    expect(numbers.at(-1)).toBe('100000');
    await terminals.drain();
  });

  it('runs at the pace of the fastest watcher, and flags missing output to a slow one', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const gate = Promise.withResolvers<void>();
    const slow = { missed: false, text: '' };
    const caughtUp = Promise.withResolvers<void>();
    terminal.watch(
      {
        async output(piece) {
          slow.missed ||= piece.missed;
          slow.text += piece.data;
          if (slow.text.includes('done')) caughtUp.resolve();
          await gate.promise;
        },
        exit() {},
      },
      0,
    );
    const fast = listen(terminal);
    await terminals.input(HANDLE, "seq 100000; echo d''one\r");
    await fast.until(/done/);
    expect(fast.missed()).toBe(false);
    gate.resolve();
    await caughtUp.promise;
    expect(slow.missed).toBe(true);
    expect(slow.text.length).toBeLessThan(200_000);
    await terminals.drain();
  });

  it('refuses input beyond a bound when no program reads it', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const watching = listen(terminal);
    await terminals.input(HANDLE, "stty raw -echo; echo rea''dy; sleep 1000\r");
    await watching.until(/ready/);
    const flood = Array.from({ length: 100 }, () => terminals.input(HANDLE, 'x'.repeat(16 << 10)));
    await expect(Promise.all(flood)).rejects.toMatchObject({ reason: 'unavailable' });
    await terminals.close(HANDLE);
  });

  it('the output of a terminal never splits a character', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, REQUEST);
    const watching = listen(terminal);
    await terminals.input(
      HANDLE,
      `i=0; while [ $i -lt 3000 ]; do printf 'héé€😀'; i=$((i+1)); done; echo; echo al''l\r`,
    );
    await watching.until(/all/);
    expect(watching.text()).not.toContain('\ufffd');
    expect(watching.text()).toContain('héé€😀'.repeat(3000));
    await terminals.drain();
  });

  it('works with a full-screen program', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, { ...REQUEST, cols: 90, rows: 20 });
    const watching = listen(terminal);
    await terminals.input(HANDLE, "command -v vi top; echo loo''ked\r");
    await watching.until(/looked/);
    if (watching.text().includes('/top')) {
      await terminals.input(HANDLE, 'top\r');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal says when the cursor goes home
      await watching.until(/\u001b\[H[\s\S]*PID/);
      await terminals.input(HANDLE, 'q');
    }
    if (watching.text().includes('/vi')) {
      await terminals.input(HANDLE, 'vi made-in-vi.txt\r');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: the alternate screen, and its last empty line
      await watching.until(/\u001b\[\?1049h[\s\S]*~/);
      await terminals.input(HANDLE, 'i');
      await terminals.input(HANDLE, 'hello from vi');
      await watching.until(/hello from vi/);
      // Ctrl-O for one command: Escape and the next key could be read as one key.
      await terminals.input(HANDLE, '\u000f:wq\r');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: and back
      await watching.until(/\u001b\[\?1049l/);
      await terminals.input(HANDLE, 'cat made-in-vi.txt\r');
      await watching.until(/cat made-in-vi.txt\s+(?:[$] )?hello from vi/);
    }
    await terminals.drain();
  });

  it('exits with its shell, and allows the shell to exec another program', async () => {
    const terminals = create();
    for (const [shell, input, exitCode] of [
      ['/bin/sh', 'exit 7\r', 7],
      ['/bin/sh', 'exec cat /dev/null\r', 0],
      [undefined, 'exit 8\r', 8],
    ] as const) {
      const { terminal } = await terminals.start(HANDLE, { ...REQUEST, shell });
      const watching = listen(terminal);
      await watching.until(/[$] $/);
      await terminals.input(HANDLE, input);
      expect(await watching.exited).toBe(exitCode);
      expect(watching.text()).not.toMatch(/process group|job control/);
    }
  });

  it('refuses a directory that does not exist, and takes no place for it', async () => {
    const terminals = create({ perKeyMax: 1 });
    await expect(terminals.start(HANDLE, { ...REQUEST, cwd: '/nope' })).rejects.toMatchObject({
      reason: 'invalid_params',
      data: { issues: [{ path: 'cwd' }] },
    });
    const { terminal } = await terminals.start(HANDLE, { ...REQUEST, cwd: '/tmp' });
    const watching = listen(terminal);
    await terminals.input(HANDLE, 'pwd; exit\r');
    await watching.exited;
    expect(watching.text()).toMatch(/^(\$ )?\/tmp\r$/m);
  });

  it('reports a program that does not exist', async () => {
    const terminals = create();
    const { terminal } = await terminals.start(HANDLE, { ...REQUEST, shell: '/no/such/shell' });
    const watching = listen(terminal);
    expect(await watching.exited).toBe(127);
    expect(watching.text()).toMatch(/not found/);
  });
});

it('reports sandbox_unavailable for every terminal where there is no sandbox', async () => {
  const sandbox = createBubblewrapSandbox({ directory: '/nowhere', path: '', bundled: false });
  const terminals = createTerminals({ sandbox, log: createLogger({ format: 'json', write: () => {} }) });
  for (const call of [
    () => terminals.start(HANDLE, REQUEST),
    () => terminals.input(HANDLE, 'x'),
    () => terminals.resize(HANDLE, { cols: 80, rows: 24 }),
    () => terminals.close(HANDLE),
  ]) {
    await expect(call()).rejects.toMatchObject({ reason: 'sandbox_unavailable', data: { hint: expect.any(String) } });
  }
});
