// `auth.limits` returns every window of the caller's key, and costs no call.
import { afterEach, expect, it } from 'vitest';
import { z } from 'zod';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { createTestClock } from '../../support/fixtures/limiter/rate-limit.ts';

const KEYS = JSON.stringify({
  keys: [
    { id: 'alice', key: 'key-alice', scopes: ['webhook'], limits: '5/minute,50/hour' },
    { id: 'bob', key: 'key-bob' },
  ],
});
const Answer = z.object({
  result: z.object({
    key_id: z.string(),
    scopes: z.array(z.string()),
    windows: z.array(
      z.object({ window_seconds: z.number(), limit: z.number(), remaining: z.number(), reset: z.number() }),
    ),
  }),
});

const open: InProcessGateway[] = [];
afterEach(() => Promise.all(open.splice(0).map((gateway) => gateway.close())));

async function call(gateway: InProcessGateway, key: string, method = 'auth.limits'): Promise<Response> {
  return fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': key },
    body: JSON.stringify({ jsonrpc: '2.0', method, params: {}, id: 1 }),
  });
}

it('auth.limits returns all windows of the key, without its own call and those of other keys', async () => {
  // No window ends between the calls.
  const clock = createTestClock();
  const gateway = await startInProcess({ GATEWAY_KEYS: KEYS }, { clock });
  open.push(gateway);
  await call(gateway, 'key-bob');
  await call(gateway, 'key-alice', 'events.list');
  const response = await call(gateway, 'key-alice');
  const { result } = Answer.parse(await response.json());
  expect(result).toMatchObject({
    key_id: 'alice',
    scopes: ['webhook'],
    windows: [
      { window_seconds: 60, limit: 5 },
      { window_seconds: 3600, limit: 50 },
    ],
  });
  const [minute, hour] = result.windows;
  expect([minute?.remaining, hour?.remaining]).toEqual([4, 49]);
  expect(Number(response.headers.get('x-ratelimit-remaining'))).toBe(minute?.remaining);
  for (const { reset, window_seconds } of result.windows) {
    expect(reset % window_seconds).toBe(0);
    expect(reset * 1_000).toBeGreaterThan(clock.now());
  }
});
