// Whole requests about one method: single calls, notifications, batches, broken envelopes and broken bytes, each with
// what is known of the verdict before it is sent.
import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import { isRefused, naughtyKey, naughtyString, naughtyValue, toText } from './literals.ts';
import { type FuzzedMethod, type Known, mutatedParams, validParams } from './params.ts';

/**
 * `refused`: the body is refused as a whole. `calls`: it is JSON that is judged call by call. `either`: random bytes
 * were changed. `not_utf8`: refused as a whole, and by a WebSocket with its end.
 */
export type Verdict = 'refused' | 'calls' | 'either' | 'not_utf8';

export interface FuzzedRequest {
  readonly body: Buffer;
  readonly verdict: Verdict;
  /** Beside the usual ones, where the transport has headers. */
  readonly headers: Readonly<Record<string, string>>;
}

export function requestAbout(method: FuzzedMethod, known: Known): fc.Arbitrary<FuzzedRequest> {
  const params = fc.oneof(
    { weight: 3, arbitrary: validParams(method, known) },
    { weight: 5, arbitrary: mutatedParams(method, known) },
    { weight: 1, arbitrary: fc.array(naughtyValue, { maxLength: 3 }) },
  );
  const call = fc.record({ jsonrpc: fc.constant('2.0'), method: fc.constant(method.name), params, id: ID }, PLAIN);
  const notification = fc.record({ jsonrpc: fc.constant('2.0'), method: fc.constant(method.name), params }, PLAIN);
  const broken = fc
    .tuple(call, fc.constantFrom('jsonrpc', 'method', 'params', 'id'), fc.oneof(naughtyValue, fc.constant(undefined)))
    .map(([value, member, naughty]) => ({ ...value, [member]: naughty }));
  const odd = fc.tuple(call, naughtyKey, naughtyValue).map(([value, name, naughty]) => ({ ...value, [name]: naughty }));
  const single = fc.oneof(
    { weight: 12, arbitrary: call },
    { weight: 2, arbitrary: notification },
    { weight: 3, arbitrary: broken },
    { weight: 1, arbitrary: odd },
    { weight: 1, arbitrary: naughtyValue },
  );
  const batch = fc.oneof(
    { weight: 6, arbitrary: fc.array(single, { minLength: 1, maxLength: 5 }) },
    { weight: 1, arbitrary: fc.array(notification, { minLength: 1, maxLength: 3 }) },
    { weight: 1, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.tuple(naughtyValue, fc.constantFrom(49, 50, 51, 500)).map(crowd) },
  );
  const value = fc.oneof({ weight: 5, arbitrary: single }, { weight: 1, arbitrary: batch });
  return fc.tuple(value, damage, headers).map(([made, harm, extra]) => {
    const damaged = harm(made);
    const shown = damaged.body.toString('utf8', 0, 2_000);
    return {
      ...damaged,
      headers: extra,
      [fc.toStringMethod]: () => `${damaged.verdict} ${fc.stringify(extra)} ${shown}`,
    };
  });
}

/** test/e2e/bad-input.test.ts covers larger bodies, whose sender gets a reset or the response. */
const BODY_BYTES_MAX = 1 << 20;

const PLAIN = { noNullPrototype: true } as const;

const ID: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 6, arbitrary: fc.integer() },
  { weight: 2, arbitrary: fc.constantFrom<unknown>('', 'a', '0', 0, null, 'x'.repeat(128), '\u0000\n"\\', 'é𝄞') },
  { weight: 1, arbitrary: naughtyString },
  { weight: 1, arbitrary: fc.constantFrom<unknown>(1.5, 2 ** 53, {}, [1], true, 'x'.repeat(129)) },
);

const headers = fc.oneof(
  { weight: 12, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.record({
      'last-event-id': fc.constantFrom('turn_1:1', 'turn_1:99999999999999999999', ':', '-1', 'live..', 'a b', '\u00e9'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      'idempotency-key': fc.constantFrom('k', 'x'.repeat(255), 'x'.repeat(256), '\u00ff', '" "'),
    }),
  },
);

/** So many of one value, or of a small one where that would be more than a body may hold. */
function crowd([value, count]: readonly [unknown, number]): readonly unknown[] {
  const fits = Buffer.byteLength(toText(value)) * count < BODY_BYTES_MAX / 2;
  return Array.from({ length: count }, () => (fits ? value : null));
}

type Damage = (value: unknown) => Pick<FuzzedRequest, 'body' | 'verdict'>;

const whole: Damage = (value) => ({
  body: Buffer.from(toText(value)),
  verdict: isRefused(value) ? 'refused' : 'calls',
});

/** What happens to the request on its way. */
const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 30, arbitrary: fc.constant(whole) },
  { weight: 2, arbitrary: fc.nat().map(truncated) },
  { weight: 2, arbitrary: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }).map(flipped) },
  { weight: 1, arbitrary: fc.constantFrom(padded, doubled, repeatedMember) },
  { weight: 1, arbitrary: fc.nat().map(notUtf8) },
);

function truncated(where: number): Damage {
  return (value) => {
    const { body, verdict } = whole(value);
    const isOpen = body[0] === 0x7b || body[0] === 0x5b;
    if (!isOpen) return { body, verdict };
    const part = body.subarray(0, where % body.length);
    return { body: part, verdict: isUtf8(part) ? 'refused' : 'not_utf8' };
  };
}

function flipped(changes: readonly (readonly [number, number])[]): Damage {
  return (value) => {
    const { body, verdict } = whole(value);
    // A changed address could be somebody's.
    if (body.includes('://')) return { body, verdict };
    for (const [where, byte] of changes) body[where % body.length] = byte;
    return { body, verdict: isUtf8(body) ? 'either' : 'not_utf8' };
  };
}

function padded(value: unknown): ReturnType<Damage> {
  const { body, verdict } = whole(value);
  return { body: Buffer.concat([Buffer.from(' \r\n\t'), body, Buffer.from('\n ')]), verdict };
}

function doubled(value: unknown): ReturnType<Damage> {
  const { body } = whole(value);
  return { body: Buffer.concat([body, Buffer.from(' '), body]), verdict: 'refused' };
}

function repeatedMember(value: unknown): ReturnType<Damage> {
  const { body, verdict } = whole(value);
  if (!body.subarray(0, 11).equals(Buffer.from('{"jsonrpc":'))) return { body, verdict };
  return { body: Buffer.concat([Buffer.from('{"json\\u0072pc":"2.0",'), body.subarray(1)]), verdict: 'refused' };
}

function notUtf8(where: number): Damage {
  return (value) => {
    const { body } = whole(value);
    const at = where % body.length;
    return { body: Buffer.concat([body.subarray(0, at), Buffer.of(0xff), body.subarray(at)]), verdict: 'not_utf8' };
  };
}
