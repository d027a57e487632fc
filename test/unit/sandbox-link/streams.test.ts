// Streams over a sandbox link are complete, in order, within their credit, and independent of each other.
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { afterEach, expect, it } from 'vitest';
import {
  type Handlers,
  LINK_CREDIT_BYTES,
  type LinkStream,
  STREAM_CREDIT_BYTES,
  STREAMS_MAX,
} from '../../../shared/sandbox-link/link/link.ts';
import { digestOf, randomBytes, readAll, turn, writeInSteps } from '../../support/fixtures/clients/streams.ts';
import { createLinkFixture, type LinkFixture } from '../../support/fixtures/sandbox/sandbox-link.ts';
import { createRandom } from '../../support/random.ts';

const open: LinkFixture[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((fixture) => fixture.stop()));
});

/** A link, and a function that opens a stream at the gateway and takes it at the sandbox. */
async function fixtureOf() {
  const taken: LinkStream[] = [];
  const onSandbox: Handlers = {
    async take(params, { link }) {
      taken.push(link.takeStream(Number(params)));
    },
    echo: async (params) => params,
  };
  const fixture = await createLinkFixture({ onSandbox });
  open.push(fixture);
  return {
    ...fixture,
    async openPair(): Promise<[near: LinkStream, far: LinkStream]> {
      const near = fixture.gateway.openStream();
      await fixture.gateway.request('take', near.id);
      const far = taken.at(-1);
      if (far === undefined) throw new Error('not taken');
      return [near, far];
    },
  };
}

it('all of 20 MB reaches a reader that pauses', async () => {
  const { openPair } = await fixtureOf();
  const [near, far] = await openPair();
  const bytes = randomBytes(20 << 20, 1);
  const random = createRandom(2);
  const received = readAll(near, async () => {
    if (random.chance(0.1)) await turn(random.int(1, 5));
  });
  far.end(bytes);
  expect(digestOf(await received)).toBe(digestOf(bytes));
});

it('many small writes are transferred in both directions concurrently, and one direction ends before the other', async () => {
  const { openPair } = await fixtureOf();
  const [near, far] = await openPair();
  const echoed = pipeline(far, far);
  const received = readAll(near);
  for (let index = 0; index < 5_000; index++) near.write(`${index}\n`);
  near.write('');
  near.end();
  const lines = (await received).toString().split('\n');
  expect(lines).toHaveLength(5_001);
  expect(lines.slice(0, 5_000)).toEqual(Array.from({ length: 5_000 }, (_, index) => String(index)));
  await echoed;
  expect([near.destroyed, far.destroyed]).toEqual([true, true]);
});

it('what was sent is kept for a reader that begins after the other side has ended and closed', async () => {
  const { openPair, gateway } = await fixtureOf();
  const [near, far] = await openPair();
  near.end();
  far.resume();
  await once(far, 'end');
  far.end('the last words of a process');
  await once(far, 'close');
  await gateway.request('echo', 1);
  expect((await readAll(near)).toString()).toBe('the last words of a process');
});

it('a stream without a reader is stopped at its credit, while other streams and requests continue', async () => {
  const { gateway, openPair } = await fixtureOf();
  const [unread] = await openPair();
  const progress = writeInSteps(unread, 4 << 20);
  const [near, far] = await openPair();
  const bytes = randomBytes(8 << 20, 3);
  near.end(bytes);
  let answered = 0;
  const received = await readAll(far, async () => {
    answered += Number(await gateway.request('echo', 1));
  });
  expect(digestOf(received)).toBe(digestOf(bytes));
  expect(answered).toBeGreaterThan(100);
  expect(progress.writtenBytes).toBeLessThanOrEqual(STREAM_CREDIT_BYTES);
  expect(progress.writtenBytes).toBeGreaterThan(STREAM_CREDIT_BYTES * 0.9);
});

it('requests are sent before data: an answer waits only for a small part of the unsent data', async () => {
  const { gateway, openPair } = await fixtureOf();
  const [near, far] = await openPair();
  far.end(randomBytes(16 << 20, 5));
  let receivedBytes = 0;
  const waits: Promise<number>[] = [];
  await readAll(near, ({ length }) => {
    const before = receivedBytes;
    receivedBytes += length;
    // At every fourth MiB, while the reader continues.
    if (before >> 22 === receivedBytes >> 22) return;
    waits.push(gateway.request('echo', 1).then(() => receivedBytes - before));
  });
  const waitedBytes = await Promise.all(waits);
  expect(waitedBytes.length).toBeGreaterThan(2);
  expect(Math.max(...waitedBytes)).toBeLessThan(4 << 20);
});

it('a stream that had no reader continues where it stopped', async () => {
  const { openPair } = await fixtureOf();
  const [near, far] = await openPair();
  const progress = writeInSteps(near, 2 << 20);
  await progress.stopped();
  expect(progress.writtenBytes).toBeLessThanOrEqual(STREAM_CREDIT_BYTES);
  const received = readAll(far);
  await progress.done;
  near.end();
  expect((await received).length).toBe(2 << 20);
});

it('streams that are not read leave room for others, within the credit of the link, however many they are', async () => {
  const { openPair } = await fixtureOf();
  const unread = [];
  for (let index = 0; index < 200; index++) unread.push(writeInSteps((await openPair())[0], 1 << 20));
  const [near, far] = await openPair();
  const bytes = randomBytes(256 << 10, 4);
  near.end(bytes);
  expect(digestOf(await readAll(far))).toBe(digestOf(bytes));
  const heldBytes = unread.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0);
  expect(heldBytes).toBeLessThanOrEqual(LINK_CREDIT_BYTES);
  expect(heldBytes).toBeGreaterThan(LINK_CREDIT_BYTES / 4);
});

it('several streams are sent in turn', async () => {
  const { openPair } = await fixtureOf();
  const pairs = [await openPair(), await openPair(), await openPair()];
  const order: number[] = [];
  const ends = pairs.map(async ([near, far], index) => {
    near.end(randomBytes(1 << 20, index));
    await readAll(far, () => void order.push(index));
  });
  await Promise.all(ends);
  for (const index of [0, 1, 2]) {
    const first = order.indexOf(index);
    const last = order.lastIndexOf(index);
    expect(first).toBeLessThan(order.length / 4);
    expect(last).toBeGreaterThan((order.length * 3) / 4);
  }
});

it('a destroyed stream is reset on the other side, data in transit is dropped, and the link stays usable', async () => {
  const { gateway, openPair } = await fixtureOf();
  const [near, far] = await openPair();
  const failed = once(far, 'error');
  writeInSteps(far, 4 << 20).done.catch(() => {});
  await once(near, 'readable');
  near.destroy();
  const [error] = await failed;
  expect(error).toMatchObject({ reason: 'cancelled' });
  expect(far.destroyed).toBe(true);
  // The credit of what was dropped has come back: more than it all passes.
  for (let index = 0; index < 3; index++) {
    const [writer, reader] = await openPair();
    writer.end(randomBytes(1 << 20, index));
    expect(await readAll(reader)).toHaveLength(1 << 20);
  }
  expect(await gateway.request('echo', 1)).toBe(1);
});

it('a destroyed stream is reported to its readers and writers, and requires no listener', async () => {
  const { gateway, openPair } = await fixtureOf();
  const [near, far] = await openPair();
  const reading = readAll(far);
  near.destroy(new Error('local'));
  await expect(reading).rejects.toMatchObject({ reason: 'cancelled' });
  const [writer] = await openPair();
  const pending = writeInSteps(writer, 4 << 20);
  await pending.stopped();
  writer.destroy();
  await expect(pending.done).rejects.toThrow();
  expect(await gateway.request('echo', 1)).toBe(1);
});

it('a stream that is not there, is taken, is reset, or is of this side cannot be taken', async () => {
  const { gateway, sandbox, openPair } = await fixtureOf();
  const [near] = await openPair();
  const own = sandbox.openStream();
  const reset = gateway.openStream();
  reset.destroy();
  for (const id of [near.id, own.id, reset.id, near.id + 100, -1, 1.5]) {
    await expect(gateway.request('take', id)).rejects.toMatchObject({ reason: 'invalid_params' });
  }
});

it('the streams that are open are bounded, and there is room again when they close', async () => {
  const { gateway } = await fixtureOf();
  const streams = Array.from({ length: STREAMS_MAX }, () => gateway.openStream());
  expect(() => gateway.openStream()).toThrow('Too many streams');
  for (const stream of streams) stream.destroy();
  await gateway.request('echo', 1);
  const again = gateway.openStream();
  await gateway.request('take', again.id);
});
