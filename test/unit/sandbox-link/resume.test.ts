// A sandbox link continues after a cut, after a time without messages and on a new WebSocket, without loss, and ends
// when that is not possible.
import { once } from 'node:events';
import { afterEach, expect, it } from 'vitest';
import { createLinkKeeper } from '../../../shared/sandbox-link/link/connect/link-keeper.ts';
import type { Handlers, Link, LinkStream } from '../../../shared/sandbox-link/link/link.ts';
import { digestOf, randomBytes, readAll } from '../../support/fixtures/clients/streams.ts';
import {
  createLinkFixture,
  FAST,
  type LinkFixture,
  startLinkServer,
  TOKEN,
} from '../../support/fixtures/sandbox/sandbox-link.ts';
import { createRandom } from '../../support/random.ts';

const open: { stop(): Promise<void> }[] = [];
function kept<T extends { stop(): Promise<void> }>(fixture: T): T {
  open.push(fixture);
  return fixture;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((fixture) => fixture.stop()));
});

/** Counts up with each call, so that a lost, repeated or reordered message shows. */
function createCounter() {
  const seen: unknown[] = [];
  const streams = Promise.withResolvers<LinkStream>();
  const handlers: Handlers = {
    async count(params) {
      seen.push(params);
      return params;
    },
    async note(params) {
      seen.push(params);
    },
    async take(params, { link }) {
      streams.resolve(link.takeStream(Number(params)));
    },
  };
  return { seen, handlers, stream: streams.promise };
}

async function exchange(
  { gateway, sandbox }: LinkFixture,
  counters: ReturnType<typeof createCounter>[],
  bytes: Buffer,
) {
  const ways: [Link, ReturnType<typeof createCounter> | undefined][] = [
    [gateway, counters[1]],
    [sandbox, counters[0]],
  ];
  await Promise.all(
    ways.map(async ([link, counter]) => {
      const near = link.openStream();
      await link.request('take', near.id);
      const far = await counter?.stream;
      if (far === undefined) throw new Error('no stream');
      const received = readAll(far);
      near.end(bytes);
      const answers: unknown[] = [];
      const sent: number[] = [];
      const calls = (async () => {
        for (let index = 0; index < 400; index += 4) {
          link.notify('note', index);
          const batch = [index + 1, index + 2, index + 3];
          sent.push(index, ...batch);
          answers.push(index, ...(await Promise.all(batch.map((value) => link.request('count', value)))));
        }
      })();
      expect(digestOf(await received)).toBe(digestOf(bytes));
      await calls;
      expect(answers).toEqual(sent);
      expect(counter?.seen).toEqual(sent);
    }),
  );
}

it.each([1, 2, 3])(
  'a link loses, repeats and reorders nothing over many cuts at random points (seed %i)',
  async (seed) => {
    const counters = [createCounter(), createCounter()];
    const [onGateway = {}, onSandbox = {}] = counters.map(({ handlers }) => handlers);
    const fixture = kept(await createLinkFixture({ onGateway, onSandbox }));
    const random = createRandom(seed);
    fixture.proxy.cutAfter(() => (random.chance(0.2) ? random.int(1, 500) : random.int(1_000, 400_000)));
    await exchange(fixture, counters, randomBytes(2 << 20, seed));
    expect(fixture.proxy.connections).toBeGreaterThan(10);
    expect(fixture.gateway.over.aborted).toBe(false);
  },
);

it('a link moves to new WebSockets before the old ones end, without loss', async () => {
  const counters = [createCounter(), createCounter()];
  const [onGateway = {}, onSandbox = {}] = counters.map(({ handlers }) => handlers);
  const fixture = kept(await createLinkFixture({ onGateway, onSandbox, handOverMs: 5 }));
  await exchange(fixture, counters, randomBytes(4 << 20, 1));
  await fixture.proxy.accepted(10);
  expect(await fixture.gateway.request('count', 'still there')).toBe('still there');
});

it('a link counts silence as a cut and resumes', async () => {
  const { handlers } = createCounter();
  const times = { ...FAST, silenceMs: 100, handshakeMs: 100 };
  const { gateway, proxy } = kept(await createLinkFixture({ onSandbox: handlers, times }));
  proxy.loseAll(true);
  const call = gateway.request('count', 1);
  await proxy.accepted(3);
  expect(gateway.connected).toBe(false);
  proxy.loseAll(false);
  expect(await call).toBe(1);
  expect(gateway.over.aborted).toBe(false);
});

it('a link stays connected while only acknowledgements are sent', async () => {
  const times = { ...FAST, silenceMs: 1_000 };
  const { gateway, proxy } = kept(await createLinkFixture({ times, handOverMs: 1_500 }));
  // The hand-over is the second connection, and no cut came before it.
  await proxy.accepted(2);
  expect(proxy.connections).toBe(2);
  expect(gateway.connected).toBe(true);
});

it('a link is over after a long cut: requests reject, handlers abort, streams are destroyed, on both sides', async () => {
  const signals: AbortSignal[] = [];
  const waiting: Handlers = {
    wait: (_params, { signal }) => {
      signals.push(signal);
      return new Promise(() => {});
    },
  };
  const times = { ...FAST, silenceMs: 100, overMs: 300, handshakeMs: 100 };
  const fixture = kept(await createLinkFixture({ onSandbox: waiting, onGateway: waiting, times }));
  const { gateway, sandbox, proxy, server } = fixture;
  const links = [gateway, sandbox];
  const calls = links.map((link) => link.request('wait', {}).catch((error: unknown) => error));
  const streams = links.map((link) => link.openStream());
  const failures = streams.map((stream) => once(stream, 'error'));
  const overs = links.map(({ over }) => once(over, 'abort'));
  proxy.loseAll(true);
  const unavailable = { reason: 'unavailable', message: expect.stringContaining('silent') };
  for (const call of calls) expect(await call).toMatchObject(unavailable);
  for (const failure of failures) expect((await failure)[0]).toMatchObject(unavailable);
  await Promise.all(overs);
  expect(gateway.over.reason).toMatchObject(unavailable);
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
  expect(streams.every(({ destroyed }) => destroyed)).toBe(true);
  expect(server.links.size).toBe(0);
});

it('a link ends immediately when the sandbox does not have it any more', async () => {
  const { gateway, proxy, sandbox } = kept(await createLinkFixture());
  proxy.loseAll(true);
  void sandbox.close('restarted');
  proxy.loseAll(false);
  const over = once(gateway.over, 'abort');
  proxy.cut();
  await over;
  expect(gateway.over.reason.message).toContain('no longer has this link');
});

it('concurrent calls open one link, and another one when it has ended', async () => {
  const fixture = kept(await startLinkServer());
  const { proxy } = fixture;
  const keeper = createLinkKeeper({
    url: proxy.url,
    headers: async () => ({ Authorization: TOKEN }),
    handlers: {},
    log: fixture.log,
    times: FAST,
  });
  const [first, same] = await Promise.all([keeper.open(), keeper.open()]);
  expect(same).toBe(first);
  expect(keeper.link).toBe(first);
  await first.close();
  expect(keeper.link).toBeUndefined();
  const second = await keeper.open();
  expect(second.id).not.toBe(first.id);
  expect(proxy.connections).toBe(2);
  await keeper.close();
  expect(second.over.aborted).toBe(true);
  await expect(keeper.open()).rejects.toMatchObject({ reason: 'unavailable' });
});

it('a link is tried again until the service is there', async () => {
  const fixture = kept(await startLinkServer());
  fixture.proxy.cutAfter(() => 50);
  const connecting = fixture.connect();
  await fixture.proxy.accepted(3);
  fixture.proxy.cutAfter(undefined);
  expect((await connecting).connected).toBe(true);
});

it('opening a link fails at its deadline, or when the caller aborts', async () => {
  const fixture = kept(await startLinkServer());
  fixture.proxy.loseAll(true);
  await expect(fixture.connect({ connectMs: 50 })).rejects.toMatchObject({ reason: 'unavailable' });
  const controller = new AbortController();
  const connecting = fixture.connect({ signal: controller.signal });
  controller.abort(new Error('the caller left'));
  await expect(connecting).rejects.toThrow('the caller left');
});
