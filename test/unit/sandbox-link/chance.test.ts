// Random streams over a sandbox link that is cut at random times never violate the protocol, and leave no state when
// they have ended.
import { expect, it } from 'vitest';
import { type Handlers, type Link, type LinkStream, STREAMS_MAX } from '../../../shared/sandbox-link/link/link.ts';
import { turn } from '../../support/fixtures/clients/streams.ts';
import { createLinkFixture } from '../../support/fixtures/sandbox/sandbox-link.ts';
import { createRandom, type Random } from '../../support/random.ts';

const STREAMS = 24;

/** Writes, reads, pauses, ends and destroys in any order, until the stream is destroyed. */
async function use(stream: LinkStream, random: Random): Promise<void> {
  for (let step = 0; !stream.destroyed && step < 40; step++) {
    const action = random.int(0, 9);
    if (action < 5) {
      if (!stream.writableEnded) stream.write(Buffer.alloc(random.pick([1, 100, 5_000, 50_000])));
    } else if (action === 5) stream.resume();
    else if (action === 6) stream.pause();
    else if (action === 7) stream.read(random.int(1, 50_000));
    else if (action === 8 && random.chance(0.3)) stream.end();
    else if (random.chance(0.1)) stream.destroy();
    await turn(random.int(0, 3));
  }
  if (random.chance(0.5)) stream.destroy();
  else {
    stream.resume();
    stream.end();
  }
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
}

it.each([1, 2, 3, 4])('random streams leave no stream and no credit at the end (seed %i)', async (seed) => {
  const random = createRandom(seed);
  const used: Promise<void>[] = [];
  const handlers: Handlers = {
    async take(id, { link }) {
      used.push(use(link.takeStream(Number(id)), random.fork()));
    },
    echo: async (params) => params,
  };
  const fixture = await createLinkFixture({ onGateway: handlers, onSandbox: handlers });
  const { gateway, sandbox, proxy } = fixture;
  proxy.cutAfter(() => random.int(1, 1_000_000));
  const openOne = async (link: Link): Promise<void> => {
    const stream = link.openStream();
    const opened = link.request('take', stream.id);
    if (random.chance(0.1)) stream.destroy();
    // A stream may be reset before the other side takes it.
    await Promise.all([use(stream, random.fork()), opened.catch(() => stream.destroy())]);
  };
  await Promise.all(Array.from({ length: STREAMS }, (_, index) => openOne(index % 2 === 0 ? gateway : sandbox)));
  await Promise.all(used);
  proxy.cutAfter(undefined);
  for (const link of [gateway, sandbox]) {
    expect(await link.request('echo', 'still there')).toBe('still there');
    expect(link.over.aborted).toBe(false);
  }
  const link = seed % 2 === 0 ? gateway : sandbox;
  for (const stream of Array.from({ length: STREAMS_MAX }, () => link.openStream())) stream.destroy();
  await fixture.stop();
});
