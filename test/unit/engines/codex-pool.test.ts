// How many app-servers there are, and when one is replaced: rules of the pool, on processes that are only counted.
import { expect, it } from 'vitest';
import type { AppServer } from '../../../shared/engines/codex/server/app-server.ts';
import { createPool, POOL_LIMITS, residentBytes } from '../../../shared/engines/codex/server/pool.ts';

const NEVER = new AbortController().signal;

/** Starts processes that do nothing but end on request; the pool touches nothing else of them. */
function countProcesses() {
  const running = new Map<AppServer, string>();
  let started = 0;
  const start = async (keyId: string): Promise<AppServer> => {
    started++;
    const { promise: gone, resolve } = Promise.withResolvers<string>();
    const made: AppServer = {
      pid: process.pid,
      client: {
        request: () => Promise.reject(new Error('not used')),
        initialized() {},
        listen: () => () => {},
        closed: gone,
      },
      home: '',
      threads: new Map(),
      gone,
      end() {
        running.delete(made);
        resolve('');
        return gone;
      },
    };
    running.set(made, keyId);
    return made;
  };
  return { start, running, started: () => started, keys: () => [...running.values()] };
}

const LIMITS = { ...POOL_LIMITS, processesMax: 2, busyMax: 2, residentBytesMax: Number.POSITIVE_INFINITY };

it('gives a key one process for turns side by side, and refuses what is too many', async () => {
  const { start, started } = countProcesses();
  const pool = createPool(start, LIMITS);
  const [first, second] = await Promise.all([pool.borrow('a', NEVER), pool.borrow('a', NEVER)]);
  expect(first.appServer).toBe(second.appServer);
  await expect(pool.borrow('a', NEVER)).rejects.toMatchObject({ reason: 'unavailable' });
  first.release();
  await pool.borrow('a', NEVER);
  expect(started()).toBe(1);
  await pool.close();
});

it('makes room by ending the process that has been idle longest, never a busy one', async () => {
  const { start, keys } = countProcesses();
  const pool = createPool(start, LIMITS);
  const a = await pool.borrow('a', NEVER);
  await pool.borrow('b', NEVER);
  await expect(pool.borrow('c', NEVER)).rejects.toMatchObject({ reason: 'unavailable', retryable: true });
  a.release();
  await new Promise(setImmediate);
  await pool.borrow('c', NEVER);
  expect(keys()).toEqual(['b', 'c']);
  await pool.close();
  expect(keys()).toEqual([]);
  await expect(pool.borrow('a', NEVER)).rejects.toMatchObject({ reason: 'unavailable' });
});

it('replaces a process after its turns, once the last of them is over', async () => {
  const { start, keys, started } = countProcesses();
  const pool = createPool(start, { ...LIMITS, turnsMax: 2 });
  const first = await pool.borrow('a', NEVER);
  const second = await pool.borrow('a', NEVER);
  first.release();
  const third = await pool.borrow('a', NEVER);
  expect(third.appServer).not.toBe(second.appServer);
  expect([keys(), started()]).toEqual([['a', 'a'], 2]);
  second.release();
  await second.appServer.gone;
  expect(keys()).toEqual(['a']);
  await pool.close();
});

it('replaces a process that has grown too large, and ends one that is idle', async () => {
  const { start, keys } = countProcesses();
  const large = createPool(start, { ...LIMITS, residentBytesMax: 1 });
  const grown = await large.borrow('a', NEVER);
  grown.release();
  await grown.appServer.gone;
  const idle = createPool(start, { ...LIMITS, idleMs: 5 });
  const unused = await idle.borrow('b', NEVER);
  unused.release();
  await unused.appServer.gone;
  expect(keys()).toEqual([]);
});

it('starts another for a key whose process has crashed', async () => {
  const { start, started } = countProcesses();
  const pool = createPool(start, LIMITS);
  const first = await pool.borrow('a', NEVER);
  await first.appServer.end();
  first.release();
  const next = await pool.borrow('a', NEVER);
  expect(next.appServer).not.toBe(first.appServer);
  expect(started()).toBe(2);
  await pool.close();
});

it('counts the memory of a process and all below it', async () => {
  expect(await residentBytes(process.pid)).toBeGreaterThan(10 << 20);
  expect(await residentBytes(2 ** 22 + 1)).toBe(0);
});
