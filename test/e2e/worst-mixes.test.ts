// A gateway with the heap of an instance of 512 MiB survives the requests that use the most memory, and answers each
// call with a result or a listed error. The bench of the same name measures time and memory.
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type LocalGateway, startLocalGateway } from '../support/fixtures/gateway/local-gateway.ts';
import { fillSession, KEY, MIXES, type MixSizes, startBackend } from '../support/fixtures/process/worst-mixes.ts';

let gateway: LocalGateway;
let backend: Awaited<ReturnType<typeof startBackend>>;
let sizes: MixSizes;

beforeAll(async () => {
  backend = await startBackend();
  gateway = await startLocalGateway({
    env: { GATEWAY_LIMITS: '1000000/minute', ...backend.env },
    nodeArgs: ['--max-heap-size=256'],
  });
  sizes = { url: gateway.url, messages: 8, requests: 8, streams: 30 };
  await fillSession(sizes);
});
afterAll(async () => {
  await gateway.stop();
  backend.close();
});

/** A result; too large; no memory for it at present; no sandbox on this machine. */
const EXPECTED = new Set(['ok', '200', '413', '503', '403', 'another call 200', 'subscriptions at least']);

it.each(Object.entries(MIXES))('a gateway with the heap of a small instance survives %s', async (_name, mix) => {
  const outcomes = await mix(sizes);
  expect(Object.keys(outcomes).filter((outcome) => !EXPECTED.has(outcome))).toEqual([]);
  expect(gateway.child.exitCode).toBeNull();
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'conversation.history',
    params: { session_id: 'big', limit: 1 },
  });
  const served = async (): Promise<number> =>
    (await fetch(`${gateway.url}/jsonrpc`, { method: 'POST', headers: { 'x-api-key': KEY }, body })).status;
  // What was held is given back.
  await expect.poll(served).toBe(200);
});

it.runIf(process.platform === 'linux')(
  'a gateway with the heap of a small instance has used at most 512 MiB of memory',
  () => {
    const status = readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8');
    expect(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024).toBeLessThan(512);
  },
);
