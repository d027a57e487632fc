// A start that is repeated within a minute is not carried out twice.
import { expect, it } from 'vitest';
import { createStarts } from '../../../shared/sandbox-link/server/starts.ts';

it('the id of a start is remembered for 60 s', () => {
  let nowMs = 0;
  const starts = createStarts(() => nowMs);
  starts.enter('one');
  nowMs = 59_999;
  starts.enter('two');
  expect(() => starts.enter('one')).toThrow(expect.objectContaining({ reason: 'conflict', retryable: false }));
  nowMs = 60_000;
  starts.enter('one');
  expect(() => starts.enter('two')).toThrow(expect.objectContaining({ reason: 'conflict' }));
});

it('a bounded number of ids is remembered, and more starts are refused', () => {
  const starts = createStarts(() => 0);
  for (let index = 0; index < 100_000; index++) starts.enter(String(index));
  expect(() => starts.enter('more')).toThrow(expect.objectContaining({ reason: 'unavailable' }));
});
