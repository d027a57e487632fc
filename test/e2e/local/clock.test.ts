// No key, session or event waits for a clock that was wrong for a while, once it is right again. The clock of real
// processes is shifted by test/support/fixtures/process/clock-shim.ts.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type LocalGateway, ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

const SHIM = join(ROOT, 'test/support/fixtures/process/clock-shim.ts');
const HOUR_MS = 3_600_000;

let data: string;
const running: LocalGateway[] = [];
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'clock-'));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((gateway) => gateway.stop()));
  rmSync(data, { recursive: true, force: true });
});

/** A gateway on the data of the test, with its clock ahead. */
async function start(aheadMs: number, env: Readonly<Record<string, string>> = {}): Promise<LocalGateway> {
  const gateway = await startLocalGateway({
    nodeArgs: ['--import', SHIM],
    env: { GATEWAY_DATA_DIR: data, SOAK_CLOCK_SKEW_MS: String(aheadMs), GATEWAY_API_KEY: 'dev-key', ...env },
  });
  running.push(gateway);
  return gateway;
}

async function kill(gateway: LocalGateway): Promise<void> {
  const exited = once(gateway.child, 'exit');
  gateway.child.kill('SIGKILL');
  await exited;
  running.splice(running.indexOf(gateway), 1);
}

function call(gateway: LocalGateway, method: string, params: object, accept = 'application/json'): Promise<Response> {
  return fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': 'dev-key', 'content-type': 'application/json', accept },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
}

it('a clock that was 400 days ahead for four calls refuses no call once it is right, on disk and while it runs', async () => {
  const env = { GATEWAY_LIMITS: '3/hour,1000/day' };
  const wrong = await start(400 * 24 * HOUR_MS, env);
  const statuses: number[] = [];
  for (let calls = 0; calls < 4; calls++) statuses.push((await call(wrong, 'conversation.list', {})).status);
  expect(statuses).toEqual([200, 200, 200, 429]);
  wrong.child.kill('SIGUSR2');
  await expect.poll(async () => (await call(wrong, 'conversation.list', {})).status).toBe(200);
  const right = await start(0, env);
  let refused = await call(right, 'conversation.list', {});
  for (let calls = 0; calls < 8 && refused.status === 200; calls++)
    refused = await call(right, 'conversation.list', {});
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(3_600);
});

it('a process that is killed in mid-turn with its clock 8 hours ahead leaves its session usable within a lease', async () => {
  const env = { GATEWAY_LEASE_MS: '3000', GATEWAY_HEARTBEAT_MS: '1000', MODEL: 'offline/slow' };
  const wrong = await start(8 * HOUR_MS, env);
  const prompt = await call(
    wrong,
    'conversation.prompt',
    { session_id: 's', prompt: 'one two three four five six seven eight nine ten' },
    'text/event-stream',
  );
  await prompt.body?.getReader().read();
  await kill(wrong);
  const right = await start(0, { ...env, MODEL: 'offline/echo' });
  const next = await call(right, 'conversation.prompt', { session_id: 's', prompt: 'next' });
  expect(await next.json()).toMatchObject({ result: { type: 'ai_response', session_id: 's' } });
});
