// Only models that fail repeatedly are passed over, only where there is a fallback, and one call at a time finds out
// whether they have recovered.
import { beforeEach, describe, expect, it } from 'vitest';
import { type CallEnd, createModelHealth, type ModelHealth } from '../../../shared/engines/models/model-health.ts';
import { createTestClock, type TestClock } from '../../support/fixtures/limiter/rate-limit.ts';

const MODEL = 'anthropic/claude';

let clock: TestClock;
let health: ModelHealth;
beforeEach(() => {
  clock = createTestClock();
  health = createModelHealth(clock);
});

function call(how: CallEnd, model = MODEL): void {
  health.begin(model, { hasFallback: false })?.ended(how);
}

function fail(times: number, everyMs = 1_000): void {
  for (let time = 0; time < times; time++) {
    call('failed');
    if (time < times - 1) clock.advance(everyMs);
  }
}

const isPassedOver = (model = MODEL): boolean => {
  const started = health.begin(model, { hasFallback: true });
  started?.ended('unknown');
  return started === undefined;
};

describe('a model that fails', () => {
  it('a model that fails is passed over after five failures in 30 s, for 30 s', () => {
    fail(4);
    expect(isPassedOver()).toBe(false);
    call('failed');
    expect(isPassedOver()).toBe(true);
    expect(health.passedOver()).toEqual([{ model: MODEL, retry_in_ms: 30_000 }]);
    clock.advance(29_999);
    expect(isPassedOver()).toBe(true);
    clock.advance(1);
    expect(health.passedOver()).toEqual([]);
    expect(isPassedOver()).toBe(false);
  });

  it('a model that fails is called where there is no fallback', () => {
    fail(50);
    expect(health.begin(MODEL, { hasFallback: false })).toBeDefined();
  });

  it.each([
    ['five failures in more than 30 s', () => fail(5, 7_501)],
    ['a success between them', () => [fail(4), call('completed'), fail(4)]],
    ['calls that say nothing about it', () => Array.from({ length: 9 }, () => call('unknown'))],
    ['failures of another model', () => Array.from({ length: 9 }, () => call('failed', 'openai/gpt'))],
  ])('a model that fails is not passed over: %s', (_, run) => {
    run();
    expect(isPassedOver()).toBe(false);
  });

  it('a model is passed over by elapsed time, independent of the wall clock', () => {
    fail(5);
    clock.step(3_600_000);
    expect(isPassedOver()).toBe(true);
    clock.step(-7_200_000);
    clock.advance(30_000);
    expect(isPassedOver()).toBe(false);
  });
});

describe('after 30 s', () => {
  beforeEach(() => {
    fail(5);
    clock.advance(30_000);
  });

  it('after 30 s one call at a time is made to a model that was passed over', () => {
    const probe = health.begin(MODEL, { hasFallback: true });
    expect(probe).toBeDefined();
    expect(isPassedOver()).toBe(true);
    expect(health.passedOver()).toEqual([{ model: MODEL, retry_in_ms: 0 }]);
    probe?.ended('unknown');
    expect(isPassedOver()).toBe(false);
  });

  it('one more failure after 30 s passes the model over for 30 s again', () => {
    health.begin(MODEL, { hasFallback: true })?.ended('failed');
    clock.advance(29_999);
    expect(isPassedOver()).toBe(true);
    clock.advance(1);
    expect(isPassedOver()).toBe(false);
  });

  it('a model is called again once its answer has begun, before it is complete', () => {
    const probe = health.begin(MODEL, { hasFallback: true });
    probe?.begun();
    expect(isPassedOver()).toBe(false);
    expect(health.passedOver()).toEqual([]);
    probe?.ended('completed');
    fail(4);
    expect(isPassedOver()).toBe(false);
  });
});

it('a bounded number of models is remembered', () => {
  fail(5);
  for (let index = 0; index < 256; index++) call('failed', `openai/${index}`);
  expect(isPassedOver()).toBe(false);
});
