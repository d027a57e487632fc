// A client that ends its connection is distinguished from one that has only ended its side: the first gets no response
// any more, and what was held for it is given back; the second is answered (connection.test.ts).
import { expect, it } from 'vitest';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const HEADERS = { 'x-api-key': 'dev-key', accept: 'text/event-stream' };
const BODY = JSON.stringify({ jsonrpc: '2.0', method: 'events.subscribe', params: {}, id: 1 });

it('the subscriptions of streams end when their clients disconnect', async () => {
  await using gateway = await start();
  // Each round takes all 8 places of the key and leaves; the next one waits until the server has seen that the clients
  // are gone.
  for (let round = 0; round < 3; round++) {
    await expect.poll(() => takeAll(gateway.url), { interval: 100 }).toBe(true);
  }
});

async function start() {
  const gateway = await startInProcess({ GATEWAY_LIMITS: '100000/minute' });
  return { url: gateway.url, [Symbol.asyncDispose]: () => gateway.close() };
}

/** The first bytes of a subscription's stream; the stream continues until `signal` aborts. */
async function subscribe(url: string, signal: AbortSignal): Promise<string> {
  const response = await fetch(`${url}/jsonrpc`, { method: 'POST', headers: HEADERS, body: BODY, signal });
  const { value } = (await response.body?.getReader().read()) ?? {};
  return new TextDecoder().decode(value);
}

/** Whether all 8 places could be taken at once. Leaves them. */
async function takeAll(url: string): Promise<boolean> {
  const left = new AbortController();
  const texts = await Promise.all(Array.from({ length: 8 }, () => subscribe(url, left.signal)));
  left.abort();
  return texts.every((text) => text.includes('events.subscribed'));
}
