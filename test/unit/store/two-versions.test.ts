// Two versions of the gateway share a store during a deploy. Here every stored document gets fields of a newer version,
// or a newer format number, and this version continues to work.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { issueTicket, redeemTicket } from '../../../shared/auth/tickets.ts';
import { createRollouts } from '../../../shared/conversations/records/rollouts.ts';
import { decodeFacts, encodeFacts } from '../../../shared/forward/call.ts';
import { conversationCancel } from '../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import { conversationResume } from '../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../shared/methods/conversation.status.ts';
import { deploymentList } from '../../../shared/methods/deployment.list.ts';
import { eventsList } from '../../../shared/methods/events.list.ts';
import { setRevoked } from '../../../shared/rate-limit/windows/limit-document.ts';
import type { Ref, Snapshot } from '../../../shared/store/store.ts';
import { fromMessage, toMessage } from '../../../shared/webhooks/bus/cloud-event.ts';
import { applyDeploymentEvent } from '../../../shared/webhooks/deployments.ts';
import type { GatewayEvent } from '../../../shared/webhooks/event.ts';
import { dueEntries, record } from '../../../shared/webhooks/outbox.ts';
import { sweep } from '../../../shared/webhooks/sweep.ts';
import { NEWER_FIELD, withNewerFields } from '../../support/fixtures/database/document-examples.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../support/fixtures/turns/conversations.ts';
import { REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  // An instance that returns finds with its next heartbeat that its lease is lost.
  fixture = await createFixture({ env: { GATEWAY_HEARTBEAT_MS: '500' } });
  fixture.provider.behave(() => ({ text: 'answer' }));
  a = await fixture.instance();
});
afterEach(() => fixture.close());

async function stored(collection?: string): Promise<Snapshot[]> {
  const refs = (await fixture.documents()).map((name): Ref => {
    const [of = '', id = ''] = name.split('/');
    return { collection: of, id };
  });
  return fixture.store.get(refs.filter((ref) => collection === undefined || ref.collection === collection));
}

async function change(collection: string | undefined, change: (data: object) => object): Promise<void> {
  const writes = (await stored(collection)).flatMap(({ ref, data }) =>
    data === undefined ? [] : [{ ref, data: change(data) }],
  );
  await fixture.store.commit(writes);
}

/** Does the work on documents with fields of a newer version; returns the collections that it has written again. */
async function rewrite(work: () => Promise<unknown>): Promise<string[]> {
  await change(undefined, (data) => Object(withNewerFields(data)));
  const before = new Map((await stored()).map(({ ref, version }) => [`${ref.collection}/${ref.id}`, version]));
  await work();
  await a.services.conversations.ledger.flush();
  const rewritten = (await stored()).filter(({ ref, version }) => {
    const known = before.get(`${ref.collection}/${ref.id}`);
    return known !== undefined && known !== version;
  });
  for (const { ref, data } of rewritten) expect(data, ref.collection).toHaveProperty(NEWER_FIELD);
  return [...new Set(rewritten.map(({ ref }) => ref.collection))].toSorted();
}

const take = (keyId = 'default') =>
  a.services.limiter.take({ keyId, limits: [{ max: 9, windowMs: 60_000 }], cost: 1, mayDegrade: true });
const eventOf = (name: string): GatewayEvent => ({
  id: `evt_${name.repeat(43)}`,
  type: 'deployment.success',
  source: 's',
  time: new Date(fixture.clock.now()).toISOString(),
  body: JSON.stringify(REFERENCE_EVENT),
  recordedAtMs: fixture.clock.now(),
  orderingKey: 'o',
});
const deploy = (name: string) => applyDeploymentEvent(a.services, eventOf(name));
const recordEvent = (event: GatewayEvent) => record(fixture.store, event, fixture.clock.now());

describe('a document that is written again keeps fields of a newer version', () => {
  it('a session’s conversation, older messages, usage and storage keep fields of a newer version', async () => {
    for (let n = 0; n < 12; n++) await a.prompt('hi');
    await a.services.conversations.ledger.flush();
    // One that has no chunk in its memory: the newer version has written them since.
    const b = await fixture.instance();
    const work = async () => {
      for (let n = 0; n < 12; n++) await b.prompt('hi');
      await b.services.conversations.ledger.flush();
    };
    expect(await rewrite(work)).toEqual(['conversations', 'messages', 'storage', 'usage']);
    const [conversation] = await stored('conversations');
    expect(conversation?.data).toMatchObject({ usage: { [NEWER_FIELD]: expect.anything() } });
    const [messages] = await stored('messages');
    const { messages: older } = Object(messages?.data);
    expect(older[0]).toHaveProperty(NEWER_FIELD);
  });

  it('the storage of a key without messages keeps fields of a newer version', async () => {
    await a.prompt('hi');
    await a.services.conversations.ledger.flush();
    expect(await rewrite(() => a.call(conversationDelete, { session_id: 's' }))).toContain('storage');
  });

  it('the record of a turn that another instance ends keeps fields of a newer version', async () => {
    fixture.provider.behave(() => ({ chunks: ['one'], hang: 'stream' }));
    const running = a.stream('prompt');
    await running.until(isDelta);
    await expect.poll(() => stored('turns')).toHaveLength(1);
    a.line.state = 'down';
    fixture.clock.advance(31_000);
    fixture.provider.behave(() => ({ text: 'answer' }));
    const b = await fixture.instance();
    expect(await rewrite(() => b.prompt('next'))).toEqual(expect.arrayContaining(['conversations', 'turns']));
    a.line.state = 'up';
    await failure(running.answer);
  });

  it('an idempotency record that is taken and released again keeps fields of a newer version', async () => {
    fixture.provider.behave(() => ({ hang: 'stream', chunks: ['x'] }));
    const interrupted = async (): Promise<void> => {
      const instance = await fixture.instance();
      const running = instance.stream('hi', { idempotency_key: 'k' });
      await running.until(isDelta);
      await instance.services.conversations.drain(0);
      await failure(running.answer);
    };
    await interrupted();
    expect(await rewrite(interrupted)).toContain('idempotency');
    fixture.provider.behave(() => ({ text: 'answer' }));
    expect(await rewrite(() => a.prompt('hi', { idempotency_key: 'k' }))).toContain('idempotency');
  });

  it('the windows and the revoke flag of a key keep fields of a newer version', async () => {
    await take();
    expect(await rewrite(take)).toEqual(['limits']);
    expect(await rewrite(() => setRevoked(fixture.store, 'default', true))).toEqual(['limits']);
    const [limits] = await stored('limits');
    expect(limits?.data).toMatchObject({ windows: [{ [NEWER_FIELD]: expect.anything() }] });
  });

  it('an event, its outbox entry and a deployment keep fields of a newer version', async () => {
    await deploy('a');
    fixture.clock.advance(1_000);
    expect(await rewrite(() => deploy('b'))).toEqual(['deployments']);
    await recordEvent(eventOf('c'));
    fixture.clock.advance(60_000);
    expect(await rewrite(() => sweep(a.services))).toEqual(['events']);
  });

  it('an outbox entry that is claimed once more keeps fields of a newer version', async () => {
    const event = eventOf('a');
    await recordEvent(event);
    fixture.clock.advance(60_000);
    expect(await rewrite(() => recordEvent(event))).toEqual(['outbox']);
  });
});

describe('a document in a newer format is not changed and answered 503', () => {
  const text = 'x'.repeat(40_000);
  const { signal } = new AbortController();
  let ticket = '';
  const rollouts = () => createRollouts(fixture.store, fixture.clock);

  beforeEach(async () => {
    await a.prompt(text, { idempotency_key: 'k' });
    for (let n = 0; n < 12; n++) await a.prompt('hi');
    await a.services.conversations.ledger.flush();
    await recordEvent(eventOf('a'));
    await deploy('a');
    const caller = { keyId: 'default', scopes: new Set([]), limits: [], digest: new Uint8Array(32) };
    ({ ticket } = await issueTicket({ store: fixture.store, clock: fixture.clock }, caller));
    await rollouts().save('conv', Buffer.from('thread'), { signal });
  });

  it.each<readonly [string, string, () => Promise<unknown>]>([
    ['conversations', 'a prompt', () => a.prompt('hi')],
    ['conversations', 'cancel', () => a.call(conversationCancel, { session_id: 's' })],
    ['conversations', 'delete', () => a.call(conversationDelete, { session_id: 's' })],
    ['conversations', 'status', () => a.call(conversationStatus, { session_id: 's' })],
    ['messages', 'history', async () => (await fixture.instance()).call(conversationHistory, { session_id: 's' })],
    ['texts', 'history', async () => (await fixture.instance()).call(conversationHistory, { session_id: 's' })],
    ['turns', 'resume', async () => (await fixture.instance()).call(conversationResume, { session_id: 's' })],
    ['idempotency', 'the same prompt', () => a.prompt(text, { idempotency_key: 'k' })],
    ['storage', 'the first prompt of an instance', async () => (await fixture.instance()).prompt('hi')],
    [
      'usage',
      'a prompt under a budget',
      async () => (await fixture.instance({ GATEWAY_DAILY_TOKENS: '9' })).prompt('hi'),
    ],
    ['tickets', 'a socket', () => redeemTicket({ store: fixture.store, clock: fixture.clock }, ticket)],
    ['rollouts', 'a turn of Codex', () => rollouts().load('conv', { signal })],
    ['events', 'events.list', () => a.call(eventsList, {})],
    ['events', 'the same delivery', () => recordEvent(eventOf('a'))],
    ['deployments', 'an event', () => deploy('b')],
    ['deployments', 'deployment.list', () => a.call(deploymentList, {})],
  ])('a document in a newer format is not changed and answered 503: %s, at %s', async (collection, _, work) => {
    await change(collection, (data) => ({ ...data, format: 99 }));
    const before = await stored(collection);
    expect(before.length).toBeGreaterThan(0);
    expect(await failure(work())).toMatchObject({ reason: 'unavailable', httpStatus: 503 });
    expect(await stored(collection)).toEqual(before);
  });

  it('a record of limits in a newer format makes only its key unavailable, and is not an outage of the store', async () => {
    await take();
    await change('limits', (data) => ({ ...data, format: 99 }));
    const before = await stored('limits');
    const fresh = await fixture.instance();
    const limits = [{ max: 9, windowMs: 60_000 }];
    const takeFor = (keyId: string) => fresh.services.limiter.take({ keyId, limits, cost: 1, mayDegrade: true });
    for (let n = 0; n < 5; n++)
      expect(await takeFor('default')).toMatchObject({ outcome: 'unavailable', degraded: false });
    expect(await takeFor('other')).toMatchObject({ outcome: 'admitted', degraded: false });
    expect((await stored('limits')).find(({ ref }) => ref.id === before[0]?.ref.id)).toEqual(before[0]);
  });

  it('an outbox entry in a newer format does not stop the sweeper', async () => {
    await change('outbox', (data) => ({ ...data, format: 99 }));
    const other = eventOf('z');
    await recordEvent(other);
    fixture.clock.advance(60_000);
    const due = await dueEntries(fixture.store, fixture.clock.now(), 10);
    expect(due.map(({ id }) => id)).toEqual([other.id]);
    expect(await sweep(a.services)).toMatchObject({ published: 1, failed: 0 });
    expect(await stored('outbox')).toHaveLength(1);
  });
});

describe('a message with members of a newer version is taken', () => {
  it('a message between the function and the companion may have members of a newer version', () => {
    const caller = { keyId: 'k', scopes: new Set(['mcp'] as const), limits: [{ max: 1, windowMs: 60_000 }] };
    const header = encodeFacts({ caller, requestId: 'r', requestMetadata: {}, transport: 'http' });
    const newer = withNewerFields(JSON.parse(Buffer.from(header, 'base64url').toString()));
    const facts = decodeFacts(Buffer.from(JSON.stringify(newer)).toString('base64url'));
    expect(facts).toEqual(decodeFacts(header));
    expect(facts.caller).toEqual(caller);
  });

  it('a message with members of a newer version is taken on the topic of events', () => {
    const message = toMessage(eventOf('a'));
    const newer = { ...message, attributes: { ...message.attributes, 'ce-newer': '1' } };
    expect(fromMessage(newer)).toEqual(fromMessage(message));
  });
});
