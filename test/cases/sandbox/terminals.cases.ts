// Every adapter of the Terminals port separates owners, bounds the number of terminals and ends them completely. Run
// against real sandboxes. What it does with input and output is in terminals-output.cases.ts.
import { afterEach, describe, expect, it } from 'vitest';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { type CreatePortsFixture, freshMark, type OpenOptions } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { HANDLE, listen, REQUEST } from '../../support/fixtures/sandbox/terminals.ts';
import { describeWith } from '../../support/requirements.ts';
import { terminalsOutputCases } from './terminals-output.cases.ts';

/** Longer than it takes to watch a terminal that has just started, on a busy machine too. */
const UNUSED_MS = 1_000;
const NOT_FOUND = { reason: 'not_found', message: 'Not found: no such terminal is running' };

export function terminalsCases(name: string, create: CreatePortsFixture): void {
  terminalsOutputCases(name, create);

  describeWith('bubblewrap', `terminals ${name}`, async () => {
    const fixture = await create();
    afterEach(() => fixture.endAll());
    const open = async (terminals: OpenOptions['terminals'] = {}) => {
      const { ports, ending } = await fixture.open({ terminals });
      return { terminals: ports.terminals, ending, erase: ports.erase };
    };

    it('a terminal ends 60 s (here 1 s) after the last watcher left, and not while one watches', async () => {
      const { terminals, ending } = await open({ unwatchedMs: UNUSED_MS });
      await terminals.start(HANDLE, REQUEST);
      const first = await listen(terminals);
      const second = await listen(terminals);
      first.leave();
      let hasEnded = false;
      void ending('s').then(() => {
        hasEnded = true;
      });
      // Another terminal, left later and watched by no one, ends after the time is over.
      await terminals.start({ ...HANDLE, sessionId: 'later' }, REQUEST);
      await ending('later');
      expect(hasEnded).toBe(false);
      second.leave();
      await ending('s');
      await expect(terminals.input(HANDLE, 'x')).rejects.toMatchObject(NOT_FOUND);
    });

    it('a terminal that never had a watcher ends', async () => {
      const { terminals, ending } = await open({ unwatchedMs: 50 });
      await terminals.start(HANDLE, REQUEST);
      await ending('s');
    });

    it('a terminal ends after 15 min (here 1 s) without input and output', async () => {
      const { terminals } = await open({ idleMs: UNUSED_MS });
      await terminals.start(HANDLE, REQUEST);
      const watching = await listen(terminals);
      expect(await watching.exited).toBeGreaterThan(128);
    });

    it('a terminal leaves no process behind that was started in it, daemons included', async () => {
      const { terminals } = await open();
      const mark = freshMark();
      await terminals.start(HANDLE, REQUEST);
      const watching = await listen(terminals);
      const script = `setsid sleep ${mark}1 & nohup sleep ${mark}2 & (sleep ${mark}3 &) ; echo st''arted\r`;
      await terminals.input(HANDLE, script);
      await watching.until(/started/);
      const sleeping = async () => (await processesWith(mark)).filter((line) => line.startsWith('sleep')).length;
      await expect.poll(sleeping).toBe(3);
      await terminals.close(HANDLE);
      expect(await processesWith(mark)).toEqual([]);
    });

    it('a terminal reports its end once, with the call that started it', async () => {
      const { terminals, ending } = await open();
      await terminals.start(HANDLE, REQUEST);
      await terminals.start(HANDLE, { ...REQUEST, requestId: 'req_2' });
      await terminals.input(HANDLE, 'exit 7\r');
      expect(await ending('s')).toEqual({
        ...{ owner: 'a', sessionId: 's', requestId: 'req_1', argv: ['/bin/sh'], exitCode: 7 },
        durationMs: expect.any(Number),
      });
      await terminals.start({ ...HANDLE, sessionId: 'default' }, { ...REQUEST, shell: undefined });
      await terminals.close({ ...HANDLE, sessionId: 'default' });
      expect(await ending('default')).toMatchObject({ argv: [], exitCode: 137 });
    });

    it('terminals are bounded per key and in total, and release their places', async () => {
      const { terminals } = await open({ perKeyMax: 2, totalMax: 3 });
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

    it('concurrent calls for one session share one terminal', async () => {
      const { terminals } = await open();
      const made = await Promise.all([1, 2, 3].map(() => terminals.start(HANDLE, { ...REQUEST, cols: 100 })));
      expect(made.map(({ resumed }) => resumed)).toEqual([false, true, true]);
      expect(made[0]).toMatchObject({ cols: 100, rows: 24 });
      const watchers = await Promise.all([listen(terminals), listen(terminals)]);
      await terminals.input(HANDLE, "echo o''nce $$\r");
      await Promise.all(watchers.map(({ until }) => until(/once \d+\r/)));
      expect(new Set(watchers.map(({ text }) => /once \d+/.exec(text())?.[0])).size).toBe(1);
    });

    it('a terminal is resumed with its output, from the beginning or after the last piece that was seen', async () => {
      const { terminals } = await open();
      expect(await terminals.start(HANDLE, REQUEST)).toMatchObject({ cols: 80, rows: 24, resumed: false });
      const first = await listen(terminals);
      await terminals.input(HANDLE, "echo fi''rst\r");
      await first.until(/first[\s\S]*[$#] $/);
      first.leave();
      const resumed = await terminals.start(HANDLE, { ...REQUEST, cols: 120 });
      expect(resumed).toMatchObject({ cols: 120, rows: 24, resumed: true });
      expect(resumed.seq).toBeGreaterThanOrEqual(first.seq());
      const [again, later, confused] = [
        await listen(terminals),
        await listen(terminals, HANDLE, first.seq()),
        // A number of another terminal.
        await listen(terminals, HANDLE, 1_000_000),
      ];
      await terminals.input(HANDLE, "echo sec''ond\r");
      await Promise.all([again, later, confused].map(({ until }) => until(/second/)));
      expect(again.text()).toMatch(/first[\s\S]*second/);
      expect(confused.text()).toMatch(/first[\s\S]*second/);
      expect(later.text()).not.toMatch(/first/);
      expect([again, later, confused].map(({ missed }) => missed())).toEqual([false, false, false]);
      // No more after it has left.
      again.leave();
      const seen = again.text();
      await terminals.input(HANDLE, "echo th''ird\r");
      await later.until(/third/);
      expect(again.text()).toBe(seen);
    });

    it('a terminal has the size that was set last', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, { ...REQUEST, cols: 90, rows: 30 });
      const watching = await listen(terminals);
      await terminals.input(HANDLE, 'stty size\r');
      await watching.until(/30 90\r/);
      expect(await terminals.resize(HANDLE, { cols: 91, rows: 31 })).toMatchObject({ cols: 91, rows: 31 });
      await terminals.input(HANDLE, 'stty size\r');
      await watching.until(/31 91\r/);
    });

    it('a terminal of another owner is answered like a missing one', async () => {
      const { terminals, erase } = await open();
      await terminals.start(HANDLE, REQUEST);
      const mine = await listen(terminals);
      const theirs = { owner: 'b', sessionId: HANDLE.sessionId };
      await expect(terminals.input(theirs, 'x')).rejects.toMatchObject(NOT_FOUND);
      await expect(terminals.resize(theirs, { cols: 1, rows: 1 })).rejects.toMatchObject(NOT_FOUND);
      await expect(listen(terminals, theirs)).rejects.toMatchObject(NOT_FOUND);
      await expect(terminals.close(theirs)).rejects.toMatchObject(NOT_FOUND);
      await erase({ ...theirs, agoMs: 0 });
      expect(await terminals.start(theirs, REQUEST)).toMatchObject({ resumed: false });
      const other = await listen(terminals, theirs);
      await terminals.input(theirs, "echo o''nly\r");
      await other.until(/only/);
      expect(mine.text()).not.toMatch(/only/);
      await terminals.close(theirs);
      await terminals.input(HANDLE, "echo he''re\r");
      await mine.until(/here/);
    });

    it('a terminal sends the rest of its output and its exit code to a watcher that connects after its end', async () => {
      const { terminals, ending, erase } = await open();
      await terminals.start(HANDLE, REQUEST);
      await terminals.input(HANDLE, "echo la''st; exit 4\r");
      await ending('s');
      await expect(terminals.input(HANDLE, 'x')).rejects.toMatchObject(NOT_FOUND);
      await expect(listen(terminals, { ...HANDLE, owner: 'b' })).rejects.toMatchObject(NOT_FOUND);
      const late = await listen(terminals);
      expect(await late.exited).toBe(4);
      expect(late.text()).toMatch(/last/);
      // The next terminal of the session takes its place.
      await terminals.start(HANDLE, REQUEST);
      const next = await listen(terminals);
      await terminals.input(HANDLE, "echo ne''xt\r");
      await next.until(/next/);
      expect(next.text()).not.toMatch(/last/);
      // The output of a session that is erased goes with it.
      await erase({ ...HANDLE, agoMs: 60_000 });
      expect(await terminals.start(HANDLE, REQUEST)).toMatchObject({ resumed: true });
      await erase({ ...HANDLE, agoMs: 0 });
      expect(await next.exited).toBeGreaterThan(128);
      await expect(listen(terminals)).rejects.toMatchObject(NOT_FOUND);
    });

    it('an ended terminal is removed after some time, and when too many have ended since', async () => {
      const { terminals, ending } = await open({ perKeyMax: 1 });
      for (const sessionId of ['1', '2']) {
        await terminals.start({ ...HANDLE, sessionId }, REQUEST);
        await terminals.close({ ...HANDLE, sessionId });
        await ending(sessionId);
      }
      await expect(listen(terminals, { ...HANDLE, sessionId: '1' })).rejects.toMatchObject(NOT_FOUND);
      expect(await (await listen(terminals, { ...HANDLE, sessionId: '2' })).exited).toBe(137);
      const short = await open({ unwatchedMs: 50 });
      await short.terminals.start(HANDLE, REQUEST);
      const isGone = () =>
        listen(short.terminals).then(
          ({ leave }) => leave(),
          ({ reason }) => reason,
        );
      await short.ending('s');
      await expect.poll(isGone).toBe('not_found');
    });

    it('a new terminal can have the name of one that is closing', async () => {
      const { terminals, ending } = await open();
      await terminals.start(HANDLE, REQUEST);
      const closing = terminals.close(HANDLE);
      const next = await terminals.start(HANDLE, REQUEST);
      expect(next.resumed).toBe(false);
      expect((await closing).exitCode).toBeGreaterThan(128);
      await ending('s');
      await terminals.input(HANDLE, 'echo still here\r');
    });

    it('a terminal exits with its shell, and allows the shell to exec another program', async () => {
      const { terminals } = await open();
      for (const [shell, input, exitCode] of [
        ['/bin/sh', 'exit 7\r', 7],
        ['/bin/sh', 'exec cat /dev/null\r', 0],
        [undefined, 'exit 8\r', 8],
      ] as const) {
        await terminals.start(HANDLE, { ...REQUEST, shell });
        const watching = await listen(terminals);
        await watching.until(/[$] $/);
        await terminals.input(HANDLE, input);
        expect(await watching.exited).toBe(exitCode);
        expect(watching.text()).not.toMatch(/process group|job control/);
      }
    });

    it('a terminal in a directory that does not exist is refused, and takes no place', async () => {
      const { terminals } = await open({ perKeyMax: 1 });
      await expect(terminals.start(HANDLE, { ...REQUEST, cwd: '/nope' })).rejects.toMatchObject({
        reason: 'invalid_params',
        data: { issues: [{ path: 'cwd' }] },
      });
      await terminals.start(HANDLE, { ...REQUEST, cwd: '/tmp' });
      const watching = await listen(terminals);
      await terminals.input(HANDLE, 'pwd; exit\r');
      await watching.exited;
      expect(watching.text()).toMatch(/^(\$ )?\/tmp\r$/m);
    });

    it('a terminal reports a program that does not exist', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, { ...REQUEST, shell: '/no/such/shell' });
      const watching = await listen(terminals);
      expect(await watching.exited).toBe(127);
      expect(watching.text()).toMatch(/not found/);
    });

    it('a terminal has the caller’s variables, and TERM', async () => {
      const { terminals } = await open();
      await terminals.start(HANDLE, { ...REQUEST, env: { GIVEN: 'x y' } });
      const watching = await listen(terminals);
      await terminals.input(HANDLE, 'echo "<$GIVEN> <$TERM>"; exit\r');
      await watching.exited;
      expect(watching.text()).toContain('<x y> <xterm-256color>');
    });
  });

  describe(`terminals ${name}, without a sandbox`, async () => {
    const { terminals } = (await (await create({ hasSandbox: false })).open()).ports;

    it('terminals are refused without a sandbox, with what is missing', async () => {
      for (const call of [
        () => terminals.start(HANDLE, REQUEST),
        () => terminals.input(HANDLE, 'x'),
        () => terminals.resize(HANDLE, { cols: 80, rows: 24 }),
        () => listen(terminals),
        () => terminals.close(HANDLE),
      ]) {
        await expect(call()).rejects.toMatchObject({
          reason: 'sandbox_unavailable',
          data: { hint: expect.any(String) },
        });
      }
    });
  });
}
