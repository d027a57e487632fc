// One key, one turn: duplicates are answered from it, wherever and whenever they come; a turn that failed lets its key go.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { conversationCancel } from '../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded.ts';
import { createStage, failure, type Instance, isDelta, type Stage } from './stage.ts';

const DAY_MS = 86_400_000;
const idempotency_key = 'order-66';

let stage: Stage;
let a: Instance;
beforeEach(async () => {
  stage = await createStage();
  a = await stage.instance();
});
afterEach(() => stage.close());

describe('an idempotency key', () => {
  it('makes 50 parallel prompts one model call and 50 equal answers, without a session id too', async () => {
    for (const params of [
      { session_id: 's', idempotency_key: 'k1' },
      { session_id: undefined, idempotency_key: 'k2' },
    ]) {
      const before = stage.provider.calls;
      const answers = await Promise.all(Array.from({ length: 50 }, () => a.prompt('[[chunks 4 every 10]]', params)));
      expect(stage.provider.calls - before).toBe(1);
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    }
  });

  it('is the header’s when the params have none', async () => {
    const hints = { idempotencyKey: 'from-header' };
    const one = await a.prompt('hi', {}, { hints });
    const two = await a.prompt('hi', {}, { hints });
    expect(two).toEqual(one);
    expect(stage.provider.calls).toBe(1);
    const tooLong = { idempotencyKey: 'x'.repeat(256) };
    expect(await failure(a.prompt('hi', {}, { hints: tooLong }))).toMatchObject({ reason: 'invalid_params' });
  });

  it('used with any other param is refused', async () => {
    await a.prompt('hi', { idempotency_key });
    for (const other of [
      { session_id: 't' },
      { model: 'offline/echo' },
      { instructions: 'be brief' },
      { on_busy: 'queue' as const },
    ]) {
      const error = await failure(a.prompt('hi', { idempotency_key, ...other }));
      expect(error).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'idempotency_key' }] } });
    }
    expect(stage.provider.calls).toBe(1);
  });

  it('belongs to its API key', async () => {
    const mine = await a.prompt('hi', { idempotency_key });
    const theirs = await a.prompt('hi', { idempotency_key }, { owner: 'another' });
    expect(theirs.turn_id).not.toBe(mine.turn_id);
    expect(stage.provider.calls).toBe(2);
  });

  it('is free again when the turn failed, and still tells of a turn that was cancelled', async () => {
    expect(await failure(a.prompt('[[cut]]', { idempotency_key: 'f' }))).toMatchObject({ reason: 'upstream_error' });
    stage.provider.behave(() => ({ text: 'now it works' }));
    expect(await a.prompt('[[cut]]', { idempotency_key: 'f' })).toMatchObject({ content: 'now it works' });
    stage.provider.behave();
    const running = a.stream('[[hang]]', { session_id: 'c', idempotency_key: 'c' });
    await running.until(isDelta);
    await a.call(conversationCancel, { session_id: 'c' });
    expect(await failure(a.prompt('[[hang]]', { session_id: 'c', idempotency_key: 'c' }))).toMatchObject({
      reason: 'cancelled',
    });
  });

  it('still tells of a failure that the same prompt would only meet again: parallel or later, one model call', async () => {
    stage.provider.behave(() => ({ status: 401 }));
    const ask = () => failure(a.prompt('hello', { idempotency_key: 'refused' }));
    const failures = [...(await Promise.all(Array.from({ length: 20 }, ask))), await ask()];
    expect(new Set(failures.map(({ reason, message, retryable }) => `${reason} ${message} ${retryable}`)).size).toBe(1);
    expect(failures[0]).toMatchObject({ reason: 'upstream_error', retryable: false });
    expect(stage.provider.requests).toHaveLength(1);
  });

  it('is forgotten after 24 hours, and with its session', async () => {
    const first = await a.prompt('hi', { idempotency_key });
    stage.clock.advance(DAY_MS - 60_000);
    expect((await a.prompt('hi', { idempotency_key })).turn_id).toBe(first.turn_id);
    stage.clock.advance(120_000);
    const later = await a.prompt('hi', { idempotency_key });
    expect(later.turn_id).not.toBe(first.turn_id);
    await a.call(conversationDelete, { session_id: 's' });
    expect((await a.prompt('hi', { idempotency_key })).turn_id).not.toBe(later.turn_id);
  });

  it('streams the first turn’s events to a duplicate, the same with the same numbers', async () => {
    const one = a.stream('[[chunks 5 every 20]]', { idempotency_key });
    await one.until(isDelta);
    const two = a.stream('[[chunks 5 every 20]]', { idempotency_key });
    expect(await two.answer).toEqual(await one.answer);
    expect(two.events).toEqual(one.events);
  });
});

it('a key outlives a restart of the gateway', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'turns-'));
  const path = join(directory, 'gateway.sqlite');
  const open = () => createStage({ openStore: (clock) => createEmbeddedStore({ path, clock }) });
  const before = await open();
  const first = await (await before.instance()).prompt('hi', { idempotency_key });
  await before.close();
  const after = await open();
  const second = await (await after.instance()).prompt('hi', { idempotency_key });
  expect(second).toEqual(first);
  expect(after.provider.calls).toBe(0);
  await after.close();
  rmSync(directory, { recursive: true });
});
