// The pool bounds the number of app-servers and replaces them by its rules. The processes of the suite are only
// counted.
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import type { AppServer } from '../../../shared/codex-host/app-server/app-server.ts';
import { createPool, POOL_LIMITS } from '../../../shared/codex-host/pool/pool.ts';
import { residentBytes } from '../../../shared/codex-host/pool/resident-bytes.ts';

const NEVER = new AbortController().signal;
const of = (owner: string, link = 'one') => ({ owner, link });

/** Starts processes that do nothing but end on request; the pool touches nothing else of them. */
function countProcesses() {
  const running = new Map<AppServer, string>();
  let started = 0;
  const start = async (owner: string): Promise<AppServer> => {
    started++;
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    const made: AppServer = {
      id: `process-${started}`,
      pid: process.pid,
      ...{ stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() },
      home: '',
      exit: { onRequest() {} },
      gone,
      end() {
        running.delete(made);
        resolve();
        return gone;
      },
    };
    running.set(made, owner);
    return made;
  };
  return { start, running, started: () => started, owners: () => [...running.values()] };
}

const LIMITS = { ...POOL_LIMITS, processesMax: 2, busyMax: 2, residentBytesMax: Number.POSITIVE_INFINITY };

it('the pool uses one process for concurrent turns of an owner, and refuses further turns above the limit', async () => {
  const { start, started } = countProcesses();
  const pool = createPool(start, LIMITS);
  const [first, second] = await Promise.all([pool.borrow(of('a'), NEVER), pool.borrow(of('a'), NEVER)]);
  expect(first.appServer).toBe(second.appServer);
  await expect(pool.borrow(of('a'), NEVER)).rejects.toMatchObject({ reason: 'unavailable' });
  first.release();
  await pool.borrow(of('a'), NEVER);
  expect(started()).toBe(1);
  await pool.close();
});

it('the pool ends the process that has been idle longest when the limit is reached, never a busy one', async () => {
  const { start, owners } = countProcesses();
  const pool = createPool(start, LIMITS);
  const a = await pool.borrow(of('a'), NEVER);
  await pool.borrow(of('b'), NEVER);
  await expect(pool.borrow(of('c'), NEVER)).rejects.toMatchObject({ reason: 'unavailable', retryable: true });
  a.release();
  await new Promise(setImmediate);
  await pool.borrow(of('c'), NEVER);
  expect(owners()).toEqual(['b', 'c']);
  await pool.close();
  expect(owners()).toEqual([]);
  await expect(pool.borrow(of('a'), NEVER)).rejects.toMatchObject({ reason: 'unavailable' });
});

it('the pool replaces a process after its turns, once the last of them is over', async () => {
  const { start, owners, started } = countProcesses();
  const pool = createPool(start, { ...LIMITS, turnsMax: 2 });
  const first = await pool.borrow(of('a'), NEVER);
  const second = await pool.borrow(of('a'), NEVER);
  first.release();
  const third = await pool.borrow(of('a'), NEVER);
  expect(third.appServer).not.toBe(second.appServer);
  expect([owners(), started()]).toEqual([['a', 'a'], 2]);
  second.release();
  await second.appServer.gone;
  expect(owners()).toEqual(['a']);
  await pool.close();
});

it('the pool replaces a process that has grown too large, and ends one that is idle', async () => {
  const { start, owners } = countProcesses();
  const large = createPool(start, { ...LIMITS, residentBytesMax: 1 });
  const grown = await large.borrow(of('a'), NEVER);
  grown.release();
  await grown.appServer.gone;
  const idle = createPool(start, { ...LIMITS, idleMs: 5 });
  const unused = await idle.borrow(of('b'), NEVER);
  unused.release();
  await unused.appServer.gone;
  expect(owners()).toEqual([]);
});

it('the pool ends a process whose only caller left while it started, a retired one immediately', async () => {
  const { start, running } = countProcesses();
  const abandon = async (limits: typeof LIMITS): Promise<AppServer | undefined> => {
    const caller = new AbortController();
    const borrowed = createPool(start, limits).borrow(of('a'), caller.signal);
    const [started] = running.keys();
    caller.abort(new Error('left'));
    await expect(borrowed).rejects.toThrow('left');
    return started;
  };
  await (await abandon({ ...LIMITS, idleMs: 5 }))?.gone;
  await (await abandon({ ...LIMITS, turnsMax: 1 }))?.gone;
  expect(running.size).toBe(0);
});

it('the pool starts another process for an owner whose process has crashed', async () => {
  const { start, started } = countProcesses();
  const pool = createPool(start, LIMITS);
  const first = await pool.borrow(of('a'), NEVER);
  await first.appServer.end();
  first.release();
  const next = await pool.borrow(of('a'), NEVER);
  expect(next.appServer).not.toBe(first.appServer);
  expect(started()).toBe(2);
  await pool.close();
});

it('the pool starts separate processes for each link, within one limit for all, and ends those of an ended link', async () => {
  const { start, owners, started } = countProcesses();
  const pool = createPool(start, LIMITS);
  const here = await pool.borrow(of('a', 'one'), NEVER);
  const there = await pool.borrow(of('a', 'two'), NEVER);
  expect(there.appServer).not.toBe(here.appServer);
  await expect(pool.borrow(of('b', 'three'), NEVER)).rejects.toMatchObject({ reason: 'unavailable' });
  await pool.endLink('one');
  expect([owners(), started()]).toEqual([['a'], 2]);
  expect((await pool.borrow(of('a', 'two'), NEVER)).appServer).toBe(there.appServer);
  await pool.borrow(of('b', 'three'), NEVER);
  expect(owners()).toEqual(['a', 'b']);
  await pool.close();
});

it('the memory of a process counts with that of all processes below it', async () => {
  expect(await residentBytes(process.pid)).toBeGreaterThan(10 << 20);
  expect(await residentBytes(2 ** 22 + 1)).toBe(0);
});
