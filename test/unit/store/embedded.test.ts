// The embedded store passes every case of the port in memory and in a file, and a file survives restarts, second
// processes and damage.
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { parametersOf, planQuery } from '../../../shared/store/embedded/query.ts';
import { Conflict, type Query, type Store } from '../../../shared/store/store.ts';
import { transact } from '../../../shared/store/transact.ts';
import { storeCases } from '../../cases/store/store.cases.ts';
import { freshRef, put, read, typed } from '../../support/fixtures/database/store.ts';
import type { Opening } from '../../support/fixtures/database/store-opener.ts';

const directory = mkdtempSync(join(tmpdir(), 'store-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
const freshPath = (): string => join(directory, `${++files}`, 'gateway.db');
const open = (path: string): Store => createEmbeddedStore({ path, clock: systemClock });

storeCases('embedded store in memory', (clock) => createEmbeddedStore({ path: ':memory:', clock }));
storeCases('embedded store in a file', (clock) => createEmbeddedStore({ path: freshPath(), clock }));

describe('commits made together', () => {
  it('commits continue after a batch of which all callers have aborted', async () => {
    const store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
    const caller = new AbortController();
    const left = Array.from({ length: 200 }, () =>
      store.commit([{ ref: freshRef(), data: {} }], { signal: caller.signal }).then(
        () => 'made',
        (reason: unknown) => reason,
      ),
    );
    const ref = freshRef();
    const mine = store.commit([{ ref, data: { n: 1 } }]);
    caller.abort('gone');
    await mine;
    expect(new Set(await Promise.all(left))).toEqual(new Set(['gone']));
    expect((await read(store, ref)).data).toEqual({ n: 1 });
    await store.close();
  });

  it('commits are made in one iteration of the event loop if they are small, and in several if they are large', async () => {
    const store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
    let iteration = 0;
    let isOver = false;
    const count = (): void => {
      iteration++;
      if (!isOver) setImmediate(count);
    };
    count();
    const iterationsOf = async (chars: number): Promise<number> => {
      const text = 'x'.repeat(chars);
      const commits = Array.from({ length: 4 }, () => put(store, freshRef(), { text }).then(() => iteration));
      return new Set(await Promise.all(commits)).size;
    };
    expect(await iterationsOf(10)).toBe(1);
    expect(await iterationsOf(700_000)).toBe(4);
    isOver = true;
    await store.close();
  });

  it('commits conflict one by one: one that fails does not affect the others in its batch, and writes nothing', async () => {
    const store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
    const [taken, half, free] = [freshRef(), freshRef(), freshRef()];
    await put(store, taken, { n: 1 });
    const [first, second, third] = await Promise.allSettled([
      store.commit([{ ref: free, data: { n: 2 }, if: 'absent' }]),
      store.commit([
        { ref: half, data: { n: 3 } },
        { ref: taken, data: { n: 3 }, if: 'absent' },
      ]),
      store.commit([{ ref: free, data: { n: 4 }, if: 'absent' }]),
    ]);
    expect([first?.status, second?.status, third?.status]).toEqual(['fulfilled', 'rejected', 'rejected']);
    expect((await read(store, free)).data).toEqual({ n: 2 });
    expect((await read(store, half)).data).toBeUndefined();
    await store.close();
  });
});

describe('embedded store file', () => {
  it('a store file is complete after closing and opening again, versions included', async () => {
    const path = freshPath();
    const ref = freshRef();
    const before = open(path);
    const version = await put(before, ref, { n: 1 });
    await before.close();
    const after = open(path);
    expect(await read(after, ref)).toEqual({ ref, data: { n: 1 }, version });
    await after.commit([{ ref, data: { n: 2 }, if: { version } }]);
    await after.close();
  });

  it('the directory and the file of a store are closed to other users', async () => {
    const path = freshPath();
    const store = open(path);
    await put(store, freshRef(), { n: 1 });
    expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700);
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(path + suffix).mode & 0o777).toBe(0o600);
    await store.close();
  });

  it('two handles on one file conflict like two instances', async () => {
    const path = freshPath();
    const [one, two] = [open(path), open(path)];
    const ref = freshRef();
    const version = await put(one, ref, { n: 1 });
    const other = await put(two, ref, { n: 2 });
    await expect(one.commit([{ ref, data: { n: 3 }, if: { version } }])).rejects.toBeInstanceOf(Conflict);
    await two.commit([{ ref, delete: true }]);
    await put(one, ref, { n: 2 });
    await expect(two.commit([{ ref, data: { n: 4 }, if: { version: other } }])).rejects.toBeInstanceOf(Conflict);
    await Promise.all([one.close(), two.close()]);
  });

  it('a document that another handle has written, deleted or created anew is read as it is stored', async () => {
    const path = freshPath();
    const [one, other] = [open(path), open(path)];
    const ref = freshRef();
    await put(other, ref, { n: 1 });
    const readTwice = async (): Promise<readonly object[]> => [await read(one, ref), await read(one, ref)];
    for (const data of [{ n: 2 }, undefined, { n: 3 }, { text: 'x'.repeat(100_000) }, { n: 4 }]) {
      await (data === undefined ? other.commit([{ ref, delete: true }]) : put(other, ref, data));
      const stored = await read(other, ref);
      expect(stored.data).toEqual(data);
      expect(await readTwice()).toEqual([stored, stored]);
    }
    // Version and time of expiry are read each time.
    await other.commit([{ ref, data: { n: 4 }, expireAtMs: Date.now() - 1 }]);
    expect(await read(one, ref)).toMatchObject({ data: undefined, version: expect.any(String) });
    await Promise.all([one.close(), other.close()]);
  });

  it('a watcher is called for a commit by another handle', async () => {
    const path = freshPath();
    const [one, two] = [open(path), open(path)];
    const ref = freshRef();
    const seen: unknown[] = [];
    const received = new Promise<void>((resolve) => {
      const stop = one.watch(ref, (snapshot) => {
        const n = typed<{ n: number }>(snapshot).data?.n;
        seen.push(n);
        if (n !== 1) return;
        stop();
        resolve();
      });
    });
    await put(two, ref, { n: 1 });
    await received;
    expect(seen.at(-1)).toBe(1);
    await Promise.all([one.close(), two.close()]);
  });

  it('a new embedded store file can be opened by several processes at the same time', async () => {
    const openers = Array.from(
      { length: 6 },
      () => new Worker(new URL('../../support/fixtures/database/store-opener.ts', import.meta.url)),
    );
    for (let round = 0; round < 60; round++) {
      const opening: Opening = { path: freshPath(), atMs: Date.now() + 10 };
      const answers = openers.map((opener) => once(opener, 'message'));
      for (const opener of openers) opener.postMessage(opening);
      expect((await Promise.all(answers)).flat()).toEqual(openers.map(() => 'opened'));
    }
    await Promise.all(openers.map((opener) => opener.terminate()));
  });

  it('no increment of several processes is lost', { timeout: 30_000 }, async () => {
    const path = freshPath();
    const worker = join(import.meta.dirname, '../../support/fixtures/database/store-increment.ts');
    const run = promisify(execFile);
    await Promise.all([1, 2, 3].map(() => run(process.execPath, [worker, path, '40'])));
    const store = open(path);
    const counter = await read<{ n: number }>(store, { collection: 'counters', id: 'shared' });
    expect(counter.data?.n).toBe(120);
    await store.close();
  });

  it('a store waits for another process without blocking, and fails with unavailable at its deadline', async () => {
    const path = freshPath();
    const store = open(path);
    const ref = freshRef();
    const holder = new DatabaseSync(path);
    holder.exec('BEGIN IMMEDIATE');
    const refused = store.commit([{ ref, data: {} }], { timeoutMs: 100 });
    await expect(refused).rejects.toMatchObject({ name: 'RpcError', reason: 'unavailable', retryable: true });
    const controller = new AbortController();
    const aborted = store.commit([{ ref, data: {} }], { signal: controller.signal });
    controller.abort(new Error('gone'));
    await expect(aborted).rejects.toThrow('gone');
    const waiting = store.commit([{ ref, data: { n: 1 } }]);
    setImmediate(() => holder.exec('ROLLBACK'));
    await waiting;
    expect((await read(store, ref)).data).toEqual({ n: 1 });
    holder.close();
    await store.close();
  });

  it('the error for a file that cannot be opened names it and the reason', () => {
    const path = freshPath();
    open(path).close();
    writeFileSync(path, 'this is not a database, but it is long enough to look like one'.repeat(100));
    expect(() => open(path)).toThrow(`cannot open ${path}: file is not a database`);
    expect(() => open(join(path, 'below', 'x.db'))).toThrow(/cannot open .*ENOTDIR|EEXIST/);
    expect(readFileSync(path, 'utf8')).toContain('this is not a database');
  });

  it('a path that is not a file is refused, without a wait for the other end of a FIFO', () => {
    const path = freshPath();
    mkdirSync(dirname(path), { recursive: true });
    execFileSync('mkfifo', [path]);
    expect(() => open(path)).toThrow(`cannot open ${path}: it is not a file`);
  });

  it('a file of a later schema is refused', () => {
    const path = freshPath();
    open(path).close();
    const later = new DatabaseSync(path);
    later.exec('PRAGMA user_version = 2');
    later.close();
    expect(() => open(path)).toThrow('its schema version is 2');
  });

  it('a store is unavailable when the table is damaged under it', async () => {
    const path = freshPath();
    const store = open(path);
    const other = new DatabaseSync(path);
    other.exec('DROP TABLE documents');
    other.close();
    const refused = await store.get([freshRef()]).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(RpcError);
    expect(refused).toMatchObject({ reason: 'unavailable' });
    await store.close();
  });
});

describe('embedded store', () => {
  it('a store is unavailable once closed, and calls its watchers no more', async () => {
    const store = open(':memory:');
    const ref = freshRef();
    const received: unknown[] = [];
    store.watch(ref, (snapshot) => received.push(snapshot));
    await store.close();
    await store.close();
    await expect(store.get([ref])).rejects.toMatchObject({ reason: 'unavailable' });
    await expect(transact(store, [ref], () => ({ writes: [], result: 0 }))).rejects.toMatchObject({
      reason: 'unavailable',
    });
    expect(received).toEqual([]);
  });

  it('expired documents are removed after commits', async () => {
    const path = freshPath();
    const clock = { ms: 1_000_000, now: () => clock.ms };
    const store = createEmbeddedStore({ path, clock, steadyMs: 0 });
    for (let n = 0; n < 100; n++) await put(store, freshRef(), { n }, clock.ms + 1);
    clock.ms += 1;
    for (let n = 0; n < 64; n++) await put(store, freshRef(), { n });
    await store.close();
    const file = new DatabaseSync(path);
    expect(file.prepare('SELECT count(*) AS left FROM documents').get()).toMatchObject({ left: 64 });
    file.close();
  });

  it('nothing is removed after the clock has just stepped ahead', async () => {
    const path = freshPath();
    const clock = { ms: 1_000_000, now: () => clock.ms };
    const store = createEmbeddedStore({ path, clock, steadyMs: 5_000 });
    const ref = freshRef();
    await put(store, ref, { kept: true }, clock.ms + 86_400_000);
    clock.ms += 400 * 86_400_000;
    for (let n = 0; n < 64; n++) await put(store, freshRef(), { n });
    const again = createEmbeddedStore({ path, clock });
    await again.close();
    clock.ms -= 400 * 86_400_000;
    expect((await read(store, ref)).data).toEqual({ kept: true });
    await store.close();
  });

  it.each<Query>([
    { collection: 'conversations', where: { owner: 'k' }, orderBy: 'updated_at', direction: 'desc', limit: 10 },
    { collection: 'events', orderBy: 'received_at', limit: 10 },
    { collection: 'events', orderBy: 'received_at', direction: 'desc', after: { value: 'x', id: 'y' }, limit: 10 },
    {
      collection: 'events',
      where: { type: 't', owner: 'k' },
      orderBy: 'received_at',
      after: { value: 1, id: 'y' },
      limit: 1,
    },
  ])('the query %j is answered from an index, without a scan or a sort', async (query) => {
    const path = freshPath();
    const store = open(path);
    await store.query(query);
    await store.close();
    const file = new DatabaseSync(path);
    const plan = file.prepare(`EXPLAIN QUERY PLAN ${planQuery(query).select}`).all(...parametersOf(query, 0));
    file.close();
    const steps = plan.map((step) => String(step.detail)).join('\n');
    expect(steps).toMatch(/^SEARCH documents USING INDEX query:[a-z:_]+ \(.*<expr>[<>]\?\)$/);
    expect(steps).not.toMatch(/SCAN|TEMP B-TREE/);
  });
});
