// The helpers for deadlines and aborts give each caller the reason of its own abort, and leave no timer or listener.
import { expect, it, vi } from 'vitest';
import { bounded, deadline, orAbort, pause, settledWithin } from '../../shared/async.ts';
import { RpcError } from '../../shared/errors.ts';

const never = (): Promise<never> => new Promise(() => {});
const REASON = new Error('the caller left');

it.each([
  ['orAbort', (signal: AbortSignal) => orAbort(never(), signal)],
  ['pause', (signal: AbortSignal) => pause(60_000, signal)],
  ['bounded', (signal: AbortSignal) => bounded({ signal }, never)],
])('%s rejects with the reason of the abort, before and during the wait', async (_name, wait) => {
  const controller = new AbortController();
  const during = wait(controller.signal);
  controller.abort(REASON);
  await expect(during).rejects.toBe(REASON);
  await expect(wait(AbortSignal.abort(REASON))).rejects.toBe(REASON);
});

it('deadline aborts with the reason of the signal that came first', async () => {
  expect(deadline(60_000, AbortSignal.abort(REASON)).reason).toBe(REASON);
  await expect(orAbort(never(), deadline(1, new AbortController().signal))).rejects.toThrow(/timeout/);
});

it('bounded aborts its work at the deadline, answers unavailable or the given error, and leaves no timer', async () => {
  // Not setImmediate, which work of an earlier file may still call.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const signals: AbortSignal[] = [];
    const hang = ({ signal }: { readonly signal: AbortSignal }): Promise<never> => {
      signals.push(signal);
      return never();
    };
    const waits = [bounded({ timeoutMs: 5 }, hang), bounded({ timeoutMs: 5, toTimeout: () => REASON }, hang)].map(
      (work) => work.catch((error: unknown) => error),
    );
    await vi.advanceTimersByTimeAsync(5);
    const [first, second] = await Promise.all(waits);
    expect(first).toBeInstanceOf(RpcError);
    expect(first).toMatchObject({ reason: 'unavailable' });
    expect(second).toBe(REASON);
    expect(signals.map((signal) => signal.reason)).toEqual([first, second]);
    // Only its own timers: work of an earlier file may still start some.
    const [set, clear] = [vi.spyOn(globalThis, 'setTimeout'), vi.spyOn(globalThis, 'clearTimeout')];
    expect(await bounded({ timeoutMs: 4_321 }, async () => 'done')).toBe('done');
    const own = set.mock.results.filter((_, index) => set.mock.calls[index]?.[1] === 4_321);
    expect(own).toHaveLength(1);
    expect(clear).toHaveBeenCalledWith(own[0]?.value);
  } finally {
    vi.restoreAllMocks();
    vi.useRealTimers();
  }
});

it('settledWithin returns whether the work settled in time, also when it failed', async () => {
  expect(await settledWithin(60_000, Promise.reject(REASON))).toBe(true);
  expect(await settledWithin(60_000, Promise.resolve())).toBe(true);
  expect(await settledWithin(1, never())).toBe(false);
});
