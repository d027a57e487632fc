// The writer of a turn's events loses none of them when the store fails, and writes none after the turn has ended. Time
// is simulated.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { systemClock } from '../../../../shared/clock.ts';
import { createEventLog } from '../../../../shared/conversations/records/event-log.ts';
import { Turns } from '../../../../shared/conversations/records/turn-documents.ts';
import { createEventFlusher } from '../../../../shared/conversations/turns/run/event-flusher.ts';
import { createTurnRecord } from '../../../../shared/conversations/turns/turn-record.ts';
import { RpcError } from '../../../../shared/errors.ts';
import { createLogger } from '../../../../shared/log.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../../shared/store/store.ts';

let store: Store;
let isDown = false;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
  store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
  isDown = false;
});
afterEach(async () => {
  vi.useRealTimers();
  await store.close();
});

function open() {
  const log = createEventLog();
  const record = createTurnRecord({
    conversation: { owner: 'alice', conversation_id: 'conv_1', session_id: 's' },
    lease: { turn_id: 'turn_1', model: 'offline/echo', started_at: '2026-01-01T12:00:00.000Z', idempotency_id: null },
  });
  const commit: Store['commit'] = async (writes, options) => {
    if (isDown) throw new RpcError('unavailable');
    return store.commit(writes, options);
  };
  const deps = { store: { ...store, commit }, clock: systemClock, log: createLogger({ format: 'json', write() {} }) };
  const flusher = createEventFlusher(deps, log, record, () => {});
  const append = (delta: string): void => {
    log.append({ AgentMessageDelta: { delta } });
    flusher.touch();
  };
  return { flusher, append };
}

async function storedSeq(): Promise<number | undefined> {
  const [record] = await store.get([Turns.ref('turn_1')]);
  return Turns.read(record)?.seq;
}

it('events whose write has failed are written a second later, also in a long turn', async () => {
  const { append } = open();
  await vi.advanceTimersByTimeAsync(120_000);
  isDown = true;
  append('first');
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await storedSeq()).toBeUndefined();
  isDown = false;
  await vi.advanceTimersByTimeAsync(1_000);
  expect(await storedSeq()).toBe(1);
  append('second');
  await vi.advanceTimersByTimeAsync(9_000);
  expect(await storedSeq()).toBe(1);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(await storedSeq()).toBe(2);
});

it('a reader that arrives while the turn ends causes no write: the record may be erased by then', async () => {
  const { append, flusher } = open();
  append('first');
  await flusher.finish();
  flusher.followed();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await storedSeq()).toBeUndefined();
});
