// The messages of a server that floods take a bounded share of the event loop, and none of them is lost.
import { PassThrough } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createStdioTransport } from '../../../shared/mcp/protocol/transports/stdio.ts';

const COUNT = 60;
const MESSAGE_MS = 3;

function openFixture() {
  const stdout = new PassThrough();
  const exited = Promise.withResolvers<{ readonly exitCode: number }>();
  const child = {
    ...{ bootId: 'b', stdin: new PassThrough(), stdout, stderr: new PassThrough() },
    exited: exited.promise,
    kill: async () => {},
  };
  const spent: number[] = [];
  let waitMs = 0;
  const transport = createStdioTransport(child, { spend: (tookMs) => spent.push(tookMs), waitMs: () => waitMs });
  const received: unknown[] = [];
  const all = Promise.withResolvers<void>();
  transport.onmessage = (message) => {
    for (const startedMs = performance.now(); performance.now() - startedMs < MESSAGE_MS; );
    received.push('params' in message && message.params?.n);
    if (received.length === COUNT) all.resolve();
  };
  const lines = Array.from({ length: COUNT }, (_, n) => JSON.stringify({ jsonrpc: '2.0', method: 'x', params: { n } }));
  const flood = async (): Promise<void> => {
    await transport.start();
    stdout.write(`${lines.join('\n')}\n`);
  };
  const wait = (ms: number): void => {
    waitMs = ms;
  };
  return {
    transport,
    stdout,
    received,
    spent,
    all: all.promise,
    flood,
    wait,
    end: () => exited.resolve({ exitCode: 0 }),
  };
}

const inOrder = Array.from({ length: COUNT }, (_, n) => n);

it('the messages of one chunk are read in slices, between which other work runs', async () => {
  const { received, spent, all, flood } = openFixture();
  await flood();
  await nextTurn();
  await nextTurn();
  expect(received.length).toBeLessThan(COUNT / 2);
  await all;
  expect(received).toEqual(inOrder);
  expect(spent.length).toBeGreaterThan(5);
  expect(spent.reduce((sum, tookMs) => sum + tookMs)).toBeGreaterThanOrEqual(COUNT * MESSAGE_MS);
});

it('a server whose owner has used up its share of the time is paused', async () => {
  const { received, stdout, all, flood, wait } = openFixture();
  wait(5);
  await flood();
  await expect.poll(() => received.length).toBeGreaterThan(0);
  const before = received.length;
  for (let turn = 0; turn < 50; turn++) await nextTurn();
  expect(stdout.isPaused()).toBe(true);
  expect(received).toHaveLength(before);
  wait(0);
  await all;
  expect(received).toEqual(inOrder);
});

it('a server whose message would take more memory than its bytes allow is ended', async () => {
  const { transport, stdout, received } = openFixture();
  await transport.start();
  stdout.write(`{"jsonrpc":"2.0","method":"x","params":{"a":[${'{},'.repeat(1_200_000)}{}]}}\n`);
  await expect.poll(() => transport.failure()?.message).toBe('a message takes more than 64 MiB of memory');
  expect(received).toEqual([]);
});

it('the transport closes after the last message of a server that has ended', async () => {
  const { transport, received, flood, end } = openFixture();
  const closed = Promise.withResolvers<void>();
  transport.onclose = closed.resolve;
  await flood();
  await nextTurn();
  end();
  await closed.promise;
  expect(received).toEqual(inOrder);
});
