// A gateway process moves from a link to an older boot of the sandbox service to the newest one, where the platform
// decides which instance a new connection reaches.
import { once } from 'node:events';
import { afterEach, expect, it } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { RpcError } from '../../../shared/errors.ts';
import { BOOT_TIMES, createBootFollower } from '../../../shared/sandbox-link/client/boots.ts';
import { createRemoteTerminals } from '../../../shared/sandbox-link/client/terminals.ts';
import { createLinkKeeper, DRAIN_TIMES } from '../../../shared/sandbox-link/link/connect/link-keeper.ts';
import type { Handlers } from '../../../shared/sandbox-link/link/link.ts';
import { createBootRecords } from '../../../shared/sandbox-records/boots.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { FAST, type ServerFixture, startLinkServer, TOKEN } from '../../support/fixtures/sandbox/sandbox-link.ts';

Object.assign(BOOT_TIMES, { checkMs: 20, retryMs: 5, retryMaxMs: 10 });
Object.assign(DRAIN_TIMES, { idleMs: 50, checkMs: 5 });
const STARTED_MS = Date.now() - 3_600_000;

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function startBoot(bootId: string, startedAtMs: number, more: Handlers = {}): Promise<ServerFixture> {
  const handlers: Handlers = { who: async () => bootId, wait: (_params, { signal }) => once(signal, 'abort'), ...more };
  const server = await startLinkServer({ handlers, sandbox: { bootId, startedAtMs } });
  open.push(server.stop);
  return server;
}

/** A gateway process whose connections go through the proxy of `server`, and the records of the others. */
function startGateway({ proxy, log }: ServerFixture, handOverMs = 3_600_000) {
  const store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
  const records = createBootRecords({ store, clock: systemClock, log, url: proxy.url });
  const headers = async () => ({ Authorization: TOKEN });
  const keeper = createLinkKeeper({
    ...{ url: proxy.url, headers, handlers: {}, log, times: FAST, handOverMs },
    onOpen: (link) => boots.opened(link),
    onElsewhere: () => boots.elsewhere(),
  });
  const boots = createBootFollower({ keeper: () => keeper, records, clock: systemClock, log });
  open.push(async () => {
    boots.close();
    await keeper.close();
    await store.close();
  });
  return { keeper, records };
}

const NEWER = { bootId: 'newer', startedAtMs: STARTED_MS + 1_000, protocol: { min: 1, max: 1 } };

it('a process connects again until it reaches the newest boot; the older link is closed when nothing uses it', async () => {
  const [older, newer] = [await startBoot('older', STARTED_MS), await startBoot('newer', STARTED_MS + 1_000)];
  const { keeper, records } = startGateway(older);
  const first = await keeper.open();
  const running = new AbortController();
  const waiting = first.request('wait', {}, running.signal).catch((error: unknown) => error);
  await records.reached(NEWER);
  // The platform leads it to the older one for a while.
  await older.proxy.accepted(4);
  expect(keeper.link).toBe(first);
  older.proxy.lead(Number(new URL(newer.proxy.url).port));
  await expect.poll(() => keeper.link?.request('who', {})).toBe('newer');
  await expect.poll(() => older.server.links.size).toBe(1);
  expect(keeper.draining).toEqual([first]);
  expect(await first.request('who', {})).toBe('older');
  running.abort(new Error('enough'));
  expect(await waiting).toMatchObject({ message: 'enough' });
  await once(first.over, 'abort');
  expect(keeper.draining).toEqual([]);
  expect(await keeper.link?.request('who', {})).toBe('newer');
});

it('a link moves when the platform leads it to a newer instance, which does not have it', async () => {
  const [older, newer] = [await startBoot('older', STARTED_MS), await startBoot('newer', STARTED_MS + 1_000)];
  const { keeper } = startGateway(older, 100);
  const first = await keeper.open();
  older.proxy.lead(Number(new URL(newer.proxy.url).port));
  await expect.poll(() => keeper.link?.request('who', {})).toBe('newer');
  await expect.poll(() => first.over.aborted).toBe(true);
});

it('a terminal starts on the newest boot when an older version refuses to look for it', async () => {
  const refuses = async () => Promise.reject(new RpcError('invalid_params'));
  const started = { cols: 80, rows: 24, seq: 0, resumed: false };
  const older = await startBoot('older', STARTED_MS, { 'terminal.start': refuses });
  const newer = await startBoot('newer', STARTED_MS + 1_000, { 'terminal.start': async () => started });
  const { keeper } = startGateway(older);
  await keeper.open();
  older.proxy.lead(Number(new URL(newer.proxy.url).port));
  await keeper.replace(() => true);
  expect(keeper.draining).toHaveLength(1);
  const terminals = createRemoteTerminals({ keeper, onStart() {} });
  expect(
    await terminals.start(
      { owner: 'a', sessionId: 's' },
      { requestId: 'r', shell: undefined, cwd: undefined, env: {} },
    ),
  ).toEqual(started);
});

it('a process keeps its link when it shares no protocol with the newest boot', async () => {
  const older = await startBoot('older', STARTED_MS);
  const { keeper, records } = startGateway(older);
  const first = await keeper.open();
  await records.reached({ ...NEWER, protocol: { min: 7, max: 8 } });
  await keeper.replace(() => false);
  expect(keeper.link).toBe(first);
  expect(older.proxy.connections).toBe(2);
});
