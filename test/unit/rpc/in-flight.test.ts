// The bytes that an instance holds for all requests together are bounded, and one owner gets half of them at most.
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { placeAnswer } from '../../../shared/rpc/answers.ts';
import { createInFlight } from '../../../shared/rpc/in-flight.ts';

const MIB = 1 << 20;
const FREE = 16 << 10;

it('an instance admits up to its bytes, one owner up to half, and again what is given back', () => {
  const inFlight = createInFlight(8 * MIB);
  const [a1, a2, b, c] = ['a', 'a', 'b', 'c'].map((owner) => inFlight.open(owner));
  expect(a1?.add(3 * MIB + FREE)).toBe(true);
  expect(a2?.add(2 * MIB + FREE)).toBe(false);
  expect(a2?.add(MIB + FREE)).toBe(true);
  expect(b?.add(4 * MIB + FREE)).toBe(true);
  expect(c?.add(1 + FREE)).toBe(false);
  a1?.release();
  a1?.release();
  expect(c?.add(3 * MIB + FREE)).toBe(true);
  expect(c?.add(1)).toBe(false);
  for (const held of [a2, b, c]) held?.release();
  expect(inFlight.open('d').add(4 * MIB + FREE)).toBe(true);
});

it('small requests are not counted, and the many small pieces of one are', () => {
  const inFlight = createInFlight(MIB);
  for (let n = 0; n < 1_000; n++) expect(inFlight.open('a').add(FREE)).toBe(true);
  const one = inFlight.open('a');
  let pieces = 0;
  while (one.add(1_024)) pieces++;
  expect(pieces).toBe((MIB / 2 + FREE) / 1_024);
});

it('nothing is counted after the request has ended', () => {
  const inFlight = createInFlight(MIB);
  const held = inFlight.open('a');
  held.release();
  expect(held.add(100 * MIB)).toBe(true);
  expect(inFlight.open('a').add(MIB / 2)).toBe(true);
});

it('a call that has had its effect and finds no place for its answer is carried out, unless it was cancelled', async () => {
  const noPlace = new RpcError('unavailable', { retryAfterMs: 1_000 });
  const memory = { hold: () => true, place: () => Promise.reject(noPlace) };
  const caller = new AbortController();
  await expect(placeAnswer(memory, caller.signal)).rejects.toMatchObject({
    reason: 'payload_too_large',
    data: { carried_out: true },
    retryable: false,
  });
  caller.abort();
  await expect(placeAnswer(memory, caller.signal)).rejects.toBe(noPlace);
});
