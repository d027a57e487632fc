// Wrong credentials from one address are refused beyond a burst and leave few lines in the log. They never block a
// valid credential.
import { createHash, createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createAuthenticate } from '../../../shared/auth/authenticate.ts';
import { createCachedKeys } from '../../../shared/auth/keys/cached-keys.ts';
import { type Client, createWrongCredentials } from '../../../shared/auth/wrong-credentials.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createLogger } from '../../../shared/log.ts';
import { refusal } from '../../support/fixtures/gateway/companion.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { createTestClock } from '../../support/fixtures/limiter/rate-limit.ts';

const BURST = 40;
const wrong = new RpcError('unauthorized', { message: 'Unauthorized: the API key is not valid' });

function setUp(isBehindFrontEnd = false) {
  const clock = { ms: 0, now: () => 1_000_000 + clock.ms, monotonic: () => clock.ms };
  const lines: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => lines.push(text) });
  const guard = createWrongCredentials({ clock, log, isBehindFrontEnd });
  const logged = (): Record<string, unknown>[] => {
    log.flush();
    return lines
      .join('')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  };
  return { clock, guard, log, logged };
}

function from(remoteAddress: string, forwarded?: string): Client {
  return { headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }, socket: { remoteAddress } };
}

describe('an address', () => {
  it('an address may send 40 wrong credentials at once and 2 a second; the rest is 429 with the time to wait', () => {
    const { clock, guard } = setUp();
    const client = from('192.0.2.1');
    const send = (count: number) => Array.from({ length: count }, () => guard.refuse(client, wrong).reason);
    expect(new Set(send(BURST))).toEqual(new Set(['unauthorized']));
    expect(guard.isThrottled(client)).toBe(true);
    const refused = guard.refuse(client, wrong);
    expect(refused).toMatchObject({ reason: 'rate_limited', retryAfterMs: 500, data: { limit: BURST, remaining: 0 } });
    expect(JSON.stringify(refused.toWire('r'))).not.toContain('192.0.2.1');
    clock.ms += 1_000;
    expect(send(3)).toEqual(['unauthorized', 'unauthorized', 'rate_limited']);
    clock.ms += 3_600_000;
    expect(send(BURST + 1).filter((reason) => reason === 'unauthorized')).toHaveLength(BURST);
  });

  it.each<readonly [string, Client, Client, boolean, boolean]>([
    ['IPv4 addresses are counted separately', from('192.0.2.1'), from('192.0.2.2'), false, false],
    ['IPv4 within IPv6 counts as IPv4', from('192.0.2.1'), from('::ffff:192.0.2.1'), false, true],
    ['IPv6 counts by its /64', from('2001:db8:1:2::1'), from('2001:db8:1:2:ffff::9'), false, true],
    ['IPv6 networks are counted separately', from('2001:db8:1:2::1'), from('2001:db8:1:3::1'), false, false],
    [
      'X-Forwarded-For has no effect without a front end',
      from('127.0.0.1', '192.0.2.1'),
      from('127.0.0.1', '192.0.2.2'),
      false,
      true,
    ],
    ['the address that Google appends counts', from('::1', '1.1.1.1, 192.0.2.1'), from('::1', '192.0.2.1'), true, true],
    [
      'a client cannot change its address by X-Forwarded-For',
      from('::1', '192.0.2.1, 192.0.2.9'),
      from('::1', '192.0.2.1'),
      true,
      false,
    ],
    ['invalid addresses count as one', from('', 'x'), from('::1', '"><'), true, true],
  ])(
    'wrong credentials are counted by the address of the client: %s',
    (_name, first, second, isBehindFrontEnd, isSame) => {
      const { guard } = setUp(isBehindFrontEnd);
      for (let n = 0; n < BURST; n++) guard.refuse(first, wrong);
      expect([guard.isThrottled(first), guard.isThrottled(second)]).toEqual([true, isSame]);
    },
  );

  it('an address is remembered within a bound', () => {
    const { guard } = setUp();
    const first = from('2001:db8::1');
    for (let n = 0; n < BURST; n++) guard.refuse(first, wrong);
    for (let n = 1; n <= 10_000; n++) guard.refuse(from(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`), wrong);
    expect(guard.isThrottled(first)).toBe(false);
  });
});

describe('the log', () => {
  it('the log has a line at once, and one for all that follows in the second', () => {
    const { guard, logged } = setUp();
    for (let n = 0; n < 60; n++) guard.refuse(from('192.0.2.1'), wrong);
    expect(logged()).toMatchObject([{ message: 'credentials refused', client: '192.0.2.1', count: 1, wrong: 1 }]);
    guard.flush();
    expect(logged()).toMatchObject([{}, { client: '192.0.2.1', count: 59, wrong: 39, throttled: 20 }]);
    guard.flush();
    guard.flush();
    expect(logged()).toHaveLength(2);
  });

  it('the log has a bounded number of lines, however many addresses there are', () => {
    const { guard, logged } = setUp();
    for (let n = 0; n < 1_000; n++) guard.absent(from(`10.0.${n >> 8}.${n & 255}`), wrong);
    guard.flush();
    expect(logged()).toHaveLength(102);
    expect(logged().reduce((sum, { count }) => sum + Number(count), 0)).toBe(1_000);
  });
});

describe('keys of a slow source', () => {
  it('keys of a slow source are not read again for guesses beyond the burst, and a valid key is accepted', async () => {
    const { clock, guard, log } = setUp();
    let reads = 0;
    const digest = createHash('sha256').update('right').digest();
    const read = async () => {
      reads++;
      return { keys: [{ id: 'app', digest, scopes: new Set<never>() }], complete: true };
    };
    const keys = createCachedKeys({ read, clock, log });
    const authenticate = createAuthenticate({ keys, clock, defaultLimits: [], wrongCredentials: guard });
    const client = from('192.0.2.1');
    const outcomeOf = async (key: string, who = client): Promise<string> => {
      try {
        return (await authenticate({ 'x-api-key': key }, { client: who })).keyId;
      } catch (error) {
        return error instanceof RpcError ? error.reason : String(error);
      }
    };
    for (let n = 0; n < BURST; n++) await outcomeOf(`wrong-${n}`);
    clock.ms = 6_000;
    for (let n = 0; n < 12; n++) guard.refuse(client, wrong);
    const before = reads;
    expect(await outcomeOf('wrong')).toBe('rate_limited');
    expect(reads).toBe(before);
    expect(await outcomeOf('right')).toBe('app');
    expect(await outcomeOf('wrong', from('192.0.2.2'))).toBe('unauthorized');
    expect(reads).toBe(before + 1);
  });
});

describe('over every way in', () => {
  const SECRET = 'github:secret-of-the-hook';
  const EVENT = '{"event":"a"}';
  const sign = (secret: string): string => `sha256=${createHmac('sha256', secret).update(EVENT).digest('hex')}`;

  it.each<readonly [string, (url: string, isRight: boolean) => Promise<number>]>([
    [
      'a key',
      async (url, isRight) => {
        const headers = { 'x-api-key': isRight ? 'dev-key' : 'wrong' };
        const body = '{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}';
        return (await fetch(`${url}/jsonrpc`, { method: 'POST', headers, body })).status;
      },
    ],
    [
      'a key of the verbose health check',
      async (url, isRight) => {
        const headers = { authorization: `Bearer ${isRight ? 'dev-key' : 'wrong'}` };
        return (await fetch(`${url}/health?verbose=1`, { headers })).status;
      },
    ],
    [
      'a signature',
      async (url, isRight) => {
        const headers = { 'x-hub-signature-256': sign(isRight ? 'secret-of-the-hook' : 'guess') };
        return (await fetch(`${url}/webhook`, { method: 'POST', headers, body: EVENT })).status;
      },
    ],
    [
      'a key of a WebSocket',
      async (url, isRight) => {
        if (isRight) return 200;
        return (await refusal(`${url.replace('http', 'ws')}/ws`, { headers: { 'X-API-Key': 'wrong' } })).status;
      },
    ],
    [
      'a ticket',
      async (url, isRight) => {
        if (isRight) return 200;
        const protocols = ['gateway.v1', `gateway.ticket.${'A'.repeat(43)}`];
        return (await refusal(`${url.replace('http', 'ws')}/ws`, { protocols })).status;
      },
    ],
  ])(
    '%s that is wrong is 429 beyond the burst, a right one is accepted, and the log has few lines',
    async (_name, send) => {
      const clock = createTestClock();
      const env = { WEBHOOK_SECRETS: SECRET, GATEWAY_LIMITS: '1000/minute' };
      const gateway = await startInProcess(env, { clock });
      const statuses = await Promise.all(Array.from({ length: 60 }, () => send(gateway.url, false)));
      expect(statuses.toSorted()).toEqual([...Array(BURST).fill(401), ...Array(60 - BURST).fill(429)]);
      expect(await send(gateway.url, true)).toBe(200);
      const lines = gateway
        .logged()
        .split('\n')
        .filter((line) => /refused|unauthorized|rate_limited/.test(line));
      expect(lines.length).toBeLessThanOrEqual(10);
      await gateway.close();
    },
  );

  it('an absent credential is always 401; too many wrong ones are 429 with Retry-After', async () => {
    const gateway = await startInProcess();
    const post = (headers: Record<string, string>) => fetch(`${gateway.url}/jsonrpc`, { method: 'POST', headers });
    for (let n = 0; n < 20; n++) {
      for (const headers of [{}, { 'x-api-key': '', authorization: '' }, { authorization: 'Basic dTpw' }]) {
        expect((await post(headers)).status).toBe(401);
      }
    }
    const answers = await Promise.all(Array.from({ length: 60 }, () => post({ 'x-api-key': 'wrong' })));
    const refused = answers.find(({ status }) => status === 429);
    expect(refused?.headers.get('retry-after')).toBe('1');
    expect(await refused?.json()).toMatchObject({
      jsonrpc: '2.0',
      id: null,
      error: { data: { reason: 'rate_limited' } },
    });
    await gateway.close();
  });
});
