// The limiter is exact and fair in several real processes on the Firestore emulator, and a revocation takes effect in
// all of them.
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { setRevoked, toLimitRef } from '../../../shared/rate-limit/windows/limit-document.ts';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import { type LimiterProcess, startLimiterProcesses, total } from '../../support/fixtures/limiter/limiter-processes.ts';
import { describeWith } from '../../support/requirements.ts';

const PROJECT = 'rate-limit-test';
/** A day: no reset can fall into a test. Exactness over resets is windows.test.ts. */
const DAY: readonly Limit[] = [{ max: 100, windowMs: 86_400_000 }];
const WIDE: readonly Limit[] = [{ max: 1_000_000, windowMs: 86_400_000 }];

let processes: LimiterProcess[] = [];
let keys = 0;

/** An unused key, so that tests and runs do not meet. */
const newKey = (): string => `key-${process.pid}-${Date.now()}-${keys++}`;

beforeAll(async () => {
  const host = inject('firestoreHost');
  if (host !== '') processes = await startLimiterProcesses(4, host, { projectId: PROJECT });
});
afterAll(() => Promise.all(processes.map((process) => process.stop())));

describeWith('emulators', 'limiter: several processes on one key', () => {
  test('exactly 100 of 300 calls each by 4 processes at once pass a limit of 100, and every call is answered', async () => {
    const keyId = newKey();
    const reports = await Promise.all(processes.map((process) => process.run({ keyId, limits: DAY, calls: 300 })));
    expect(total(reports, 'admitted')).toBe(100);
    expect(total(reports, 'rate_limited')).toBe(1_100);
    for (const { operations } of reports) expect(operations).toBeLessThanOrEqual(20);
  });

  test('all of 25 calls each by 4 processes, spread over a second, are admitted', async () => {
    const job = { keyId: newKey(), limits: DAY, calls: 25, spreadMs: 1_000 };
    const reports = await Promise.all(processes.map((process) => process.run(job)));
    expect(reports.map(({ outcomes }) => outcomes)).toEqual(Array(4).fill({ admitted: 25 }));
  });

  test('none of 20 contending instances in 4 processes is starved', { timeout: 180_000 }, async () => {
    const job = { keyId: newKey(), limits: WIDE, instances: 5, patient: true, calls: 10, sequential: true };
    const reports = await Promise.all(processes.map((process) => process.run(job)));
    expect(reports.map(({ outcomes }) => outcomes)).toEqual(Array(4).fill({ admitted: 50 }));
  });
});

describeWith('emulators', 'limiter: instances of one mind', () => {
  test('a process whose clock is 30 s off makes no process admit too many', async () => {
    // Windows short enough that the clocks disagree about which one it is; the clocks are set to the beginning of one,
    // so that none ends during the test.
    const windowMs = 30_000;
    const limits = [{ max: 50, windowMs }];
    const aheadMs = windowMs - (Date.now() % windowMs);
    const keyId = newKey();
    const [exact, fast, slow] = processes;
    const reports = [
      await exact?.run({ keyId, limits, skewMs: aheadMs, calls: 20 }),
      await fast?.run({ keyId, limits, skewMs: aheadMs + windowMs, calls: 40 }),
      await slow?.run({ keyId, limits, skewMs: aheadMs - windowMs, calls: 40 }),
      await exact?.run({ keyId, limits, skewMs: aheadMs, calls: 40 }),
    ];
    // 20 in the true window; then the fast clock opens the next one, which the others adopt: 50 in that one and no
    // more.
    expect(reports.map((report) => report?.outcomes.admitted ?? 0)).toEqual([20, 40, 10, 0]);
  });

  test('a revocation is seen by another process at its next call', async () => {
    const keyId = newKey();
    const job = { keyId, limits: WIDE, calls: 1 };
    for (const process of processes) expect((await process.run(job)).outcomes).toEqual({ admitted: 1 });
    const store = createFirestoreStore({
      projectId: PROJECT,
      emulatorHost: inject('firestoreHost'),
      clock: systemClock,
    });
    await setRevoked(store, keyId, true);
    await store.close();
    for (const process of processes)
      expect((await process.run({ ...job, calls: 20 })).outcomes).toEqual({ revoked: 20 });
  });

  test.each(['used', 'idle'])(
    "an operator's PATCH, as terraform/README.md shows it, revokes a key that is %s",
    async (state) => {
      const [process] = processes;
      const job = { keyId: newKey(), limits: WIDE, calls: 1 };
      if (state === 'used') expect((await process?.run(job))?.outcomes).toEqual({ admitted: 1 });
      const document = `projects/${PROJECT}/databases/(default)/documents/limits/${toLimitRef(job.keyId).id}`;
      const mask = 'updateMask.fieldPaths=data.revoked&updateMask.fieldPaths=expire_at';
      const patched = await fetch(`http://${inject('firestoreHost')}/v1/${document}?${mask}`, {
        method: 'PATCH',
        headers: { authorization: 'Bearer owner', 'content-type': 'application/json' },
        body: '{"fields":{"data":{"mapValue":{"fields":{"revoked":{"booleanValue":true}}}}}}',
      });
      expect(patched.status).toBe(200);
      expect((await process?.run({ ...job, calls: 5 }))?.outcomes).toEqual({ revoked: 5 });
    },
  );
});
