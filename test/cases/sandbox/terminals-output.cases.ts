// Every adapter of the Terminals port passes input and output on without loss or division of a character, and a slow
// watcher delays no other. Run against real sandboxes.
import { afterEach, expect, it } from 'vitest';
import type { Terminals, Watcher } from '../../../shared/terminals/terminals.ts';
import type { CreatePortsFixture } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { HANDLE, listen, REQUEST } from '../../support/fixtures/sandbox/terminals.ts';
import { describeWith } from '../../support/requirements.ts';

const ESC = '\u001b';

/** Number of the last piece of output. */
async function seqOf(terminals: Terminals): Promise<number> {
  return (await terminals.resize(HANDLE, { cols: 80, rows: 24 })).seq;
}

export function terminalsOutputCases(name: string, create: CreatePortsFixture): void {
  describeWith('bubblewrap', `input and output of terminals ${name}`, async () => {
    const fixture = await create();
    afterEach(() => fixture.endAll());
    const open = async () => ({ terminals: (await fixture.open()).ports.terminals });

    it('a terminal blocks its program until its only watcher has read, which misses no output', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, REQUEST);
      const gate = Promise.withResolvers<void>();
      let text = '';
      const over = Promise.withResolvers<void>();
      const watcher: Watcher = {
        async output(piece) {
          expect(piece.missed).toBe(false);
          text += piece.data;
          if (text.includes('seq')) await gate.promise;
          if (text.includes('done')) over.resolve();
        },
        exit() {},
      };
      await terminals.watch(HANDLE, watcher, 0);
      await terminals.input(HANDLE, "seq 100000; echo d''one\r");
      await expect.poll(() => seqOf(terminals)).toBeGreaterThan(5);
      // The output stops. That the program is blocked, and not slow, is shown by `missed`: the buffer is smaller.
      let seq = 0;
      const isUnchanged = async (): Promise<boolean> => {
        const before = seq;
        seq = await seqOf(terminals);
        return seq === before;
      };
      await expect.poll(isUnchanged, { interval: 100 }).toBe(true);
      gate.resolve();
      await over.promise;
      const numbers = text.match(/(?<!\d)\d+(?=\r\n)/g) ?? [];
      expect(numbers).toHaveLength(100_000);
      expect(numbers.at(-1)).toBe('100000');
    });

    it('a terminal runs at the pace of the fastest watcher, and flags missing output to a slow one', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, REQUEST);
      const gate = Promise.withResolvers<void>();
      const slow = { missed: false, text: '' };
      const caughtUp = Promise.withResolvers<void>();
      const watcher: Watcher = {
        async output(piece) {
          slow.missed ||= piece.missed;
          slow.text += piece.data;
          if (slow.text.includes('done')) caughtUp.resolve();
          await gate.promise;
        },
        exit() {},
      };
      await terminals.watch(HANDLE, watcher, 0);
      const fast = await listen(terminals);
      // Some 2 MB.
      await terminals.input(HANDLE, "seq 300000; echo d''one\r");
      await fast.until(/done/);
      expect(fast.missed()).toBe(false);
      gate.resolve();
      await caughtUp.promise;
      expect(slow.missed).toBe(true);
      expect(slow.text.length).toBeLessThan(600_000);
    });

    it('a terminal refuses input beyond a bound when no program reads it', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, REQUEST);
      const watching = await listen(terminals);
      await terminals.input(HANDLE, "stty raw -echo; echo rea''dy; sleep 1000\r");
      await watching.until(/ready/);
      const flood = Array.from({ length: 100 }, () => terminals.input(HANDLE, 'x'.repeat(16 << 10)));
      await expect(Promise.all(flood)).rejects.toMatchObject({ reason: 'unavailable' });
      await Promise.allSettled(flood);
      await terminals.close(HANDLE);
    });

    it('a terminal receives input in the order of the calls', async () => {
      const { terminals } = await open();
      const started = terminals.start(HANDLE, { ...REQUEST, shell: '/bin/cat' });
      const numbers = Array.from({ length: 50 }, (_, index) => String(index));
      // Calls that follow the start at once wait for the terminal.
      await Promise.all([started, ...numbers.map((number) => terminals.input(HANDLE, `${number}\r`))]);
      const watching = await listen(terminals);
      await watching.until(/49\r\n[\s\S]*49\r\n/);
      const typed = [...watching.text().matchAll(/(\d+)\r\n/g)].map(([, number]) => number);
      for (const number of numbers) expect(typed.filter((one) => one === number)).toHaveLength(2);
      expect([...new Set(typed)]).toEqual(numbers);
    });

    it('output of a terminal is never divided within a character', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, REQUEST);
      const watching = await listen(terminals);
      await terminals.input(
        HANDLE,
        `i=0; while [ $i -lt 3000 ]; do printf 'héé€😀'; i=$((i+1)); done; echo; echo al''l\r`,
      );
      await watching.until(/all/);
      expect(watching.text()).not.toContain('\ufffd');
      expect(watching.text()).toContain('héé€😀'.repeat(3000));
    });

    it('full-screen programs (top, vi) draw in a terminal and react to keys', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, { ...REQUEST, cols: 90, rows: 20 });
      const watching = await listen(terminals);
      await terminals.input(HANDLE, "command -v vi top; echo loo''ked\r");
      await watching.until(/looked/);
      if (watching.text().includes('/top')) {
        await terminals.input(HANDLE, 'top\r');
        await watching.until(new RegExp(`${ESC}\\[H[\\s\\S]*PID`));
        await terminals.input(HANDLE, 'q');
      }
      if (watching.text().includes('/vi')) {
        await terminals.input(HANDLE, 'vi made-in-vi.txt\r');
        await watching.until(new RegExp(`${ESC}\\[\\?1049h[\\s\\S]*~`));
        await terminals.input(HANDLE, 'i');
        await terminals.input(HANDLE, 'hello from vi');
        await watching.until(/hello from vi/);
        // Ctrl-O for one command: Escape and the next key could be read as one key.
        await terminals.input(HANDLE, '\u000f:wq\r');
        await watching.until(new RegExp(`${ESC}\\[\\?1049l`));
        await terminals.input(HANDLE, 'cat made-in-vi.txt\r');
        await watching.until(/cat made-in-vi.txt\s+(?:[$] )?hello from vi/);
      }
    });
  });
}
