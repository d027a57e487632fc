// A client of a gRPC service is replaced after calls without an answer, not after answers that are errors, and not more
// often than its bound.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { createGrpcClient } from '../../../shared/grpc/grpc-client.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const hang = (): Promise<never> => new Promise(() => {});
const fail = (code: number) => async (): Promise<never> => {
  throw Object.assign(new Error(`status ${code}`), { code });
};

function start() {
  const closed: number[] = [];
  let opened = 0;
  let replaced = 0;
  const client = createGrpcClient<number>({
    open: async () => ++opened,
    close: async (number) => void closed.push(number),
    onReplaced: () => void replaced++,
  });
  /** The outcome of a call whose work is `work`. */
  const run = async (work: (used: number) => Promise<unknown>): Promise<unknown> => {
    const outcome = client.run({ timeoutMs: 100 }, work).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(100);
    return outcome;
  };
  const used = (): Promise<unknown> => run(async (number) => number);
  return { client, closed, run, used, replacedCount: () => replaced };
}

it('every client of a Google SDK gets the options with which a dead connection is found', () => {
  const shared = join(import.meta.dirname, '../../../shared');
  const created = globSync('**/*.ts', { cwd: shared }).flatMap(
    (file) =>
      readFileSync(join(shared, file), 'utf8').match(/new (Firestore|PubSub|\w*Client)\((?!Url)[^;]*?\);/g) ?? [],
  );
  const clients = created.filter((text) =>
    /new (Firestore|PubSub|\w+ServiceClient)\(|new Client\(channel\./.test(text),
  );
  expect(clients).toHaveLength(5);
  for (const text of clients) expect(text).toMatch(/\bCHANNEL_OPTIONS\b/);
});

describe('a client of a gRPC service', () => {
  it.each([
    ['misses its deadline', hang],
    ['is reported as past its deadline', fail(4)],
    ['finds no connection', fail(14)],
    ['cannot authenticate', fail(16)],
    ['fails before it is sent', () => Promise.reject(new Error('no credentials'))],
  ])(
    'a client of a gRPC service is replaced when a call %s twice in a row, and the next call works',
    async (_name, work) => {
      const { run, used, replacedCount } = start();
      expect(await used()).toBe(1);
      await run(work);
      expect(await used()).toBe(1);
      await run(work);
      await run(work);
      expect(replacedCount()).toBe(0);
      expect([await used(), await used(), replacedCount()]).toEqual([2, 2, 1]);
    },
  );

  it.each([3, 5, 6, 7, 8, 9, 10, 13])(
    'a client of a gRPC service is kept when the service answers with status %i',
    async (code) => {
      const { run, used } = start();
      for (let n = 0; n < 5; n++) await run(fail(code));
      expect(await used()).toBe(1);
    },
  );

  it('a client of a gRPC service is kept when the work itself refuses, or its caller disconnects', async () => {
    const { client, run, used } = start();
    for (let n = 0; n < 5; n++) await run(() => Promise.reject(new RpcError('session_busy')));
    const left = new AbortController();
    const calls = Array.from({ length: 5 }, () => client.run({ signal: left.signal }, hang).catch(String));
    await vi.advanceTimersByTimeAsync(1);
    left.abort(new Error('left'));
    expect(await Promise.all(calls)).toEqual(Array(5).fill('Error: left'));
    expect(await used()).toBe(1);
  });

  it('a client of a gRPC service is replaced at most once in 5 s, and closed a minute later, when late answers have arrived', async () => {
    const { client, closed, run, used } = start();
    await run(hang);
    const late = Promise.withResolvers<string>();
    const slow = client.run({ timeoutMs: 30_000 }, () => late.promise);
    await run(hang);
    for (let n = 0; n < 10; n++) await run(hang);
    expect(await used()).toBe(2);
    late.resolve('late');
    expect([await slow, closed]).toEqual(['late', []]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(closed).toEqual([1]);
    await client.close();
    expect(closed).toEqual([1, 2]);
    expect(await used()).toMatchObject({ reason: 'unavailable' });
  });

  it('a client of a gRPC service is opened again after a failure to open it, and after an attempt that takes too long', async () => {
    const slow = Promise.withResolvers<number>();
    const closed: number[] = [];
    const attempts = [() => Promise.reject(new Error('no SDK')), () => slow.promise, async () => 3];
    const client = createGrpcClient<number>({
      open: () => attempts.shift()?.() ?? hang(),
      close: async (number) => void closed.push(number),
    });
    const outcome = async (): Promise<unknown> => {
      const call = client.run({}, async (number) => number).catch((error: unknown) => error);
      await vi.advanceTimersByTimeAsync(10_000);
      return call;
    };
    expect(await outcome()).toMatchObject({ message: 'no SDK' });
    expect(await outcome()).toMatchObject({ reason: 'unavailable' });
    slow.resolve(2);
    expect(await outcome()).toBe(3);
    // The client of the attempt that took too long.
    await vi.advanceTimersByTimeAsync(60_000);
    expect(closed).toEqual([2]);
  });

  it('a client reports its replacement also if the first client that replaces it cannot be opened', async () => {
    const attempts = [async () => 1, () => Promise.reject(new Error('no token')), async () => 3];
    let replaced = 0;
    const client = createGrpcClient<number>({
      open: () => attempts.shift()?.() ?? hang(),
      close: async () => {},
      onReplaced: () => void replaced++,
    });
    const run = (work: (number: number) => Promise<unknown>) => client.run({}, work).catch(String);
    await run(fail(14));
    await run(fail(14));
    expect([await run(async (number) => number), replaced]).toEqual(['Error: no token', 0]);
    expect([await run(async (number) => number), replaced]).toEqual([3, 1]);
  });

  it('a client of a gRPC service closes within its bound while it is being opened', async () => {
    const client = createGrpcClient<number>({ open: hang, close: async () => {} });
    void client.open();
    const closing = client.close();
    await vi.advanceTimersByTimeAsync(1_000);
    await closing;
  });
});
