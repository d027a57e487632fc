// A turn is settled correctly across real gateway processes on the Firestore emulator: when another process cancels it,
// when its owner is killed in mid-stream, when many prompts arrive at once, and when its provider fails.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import {
  type EventReader,
  follow,
  type RpcAnswer,
  rpc,
  textOf,
  until,
  untilServing,
} from '../../support/fixtures/clients/turn-client.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const LEASE_MS = 3_000;

let provider: ModelProvider;
const gateways: LocalGateway[] = [];

async function startGateway(firestoreHost: string, project: string, env: Record<string, string> = {}) {
  const gateway = await startLocalGateway({
    env: {
      FIRESTORE_EMULATOR_HOST: firestoreHost,
      GOOGLE_CLOUD_PROJECT: project,
      METADATA_SERVER_DETECTION: 'none',
      GATEWAY_API_KEY: 'dev-key',
      GATEWAY_BUS: 'local',
      GATEWAY_LIMITS: '1000000/minute',
      GATEWAY_LEASE_MS: String(LEASE_MS),
      GATEWAY_HEARTBEAT_MS: '1000',
      ANTHROPIC_API_KEY: 'sk-test',
      ANTHROPIC_BASE_URL: provider.url,
      MODEL: 'anthropic/claude-sonnet-4-5',
      ...env,
    },
  });
  gateways.push(gateway);
  return gateway;
}

async function kill(gateway: LocalGateway): Promise<void> {
  if (gateway.child.exitCode !== null || gateway.child.signalCode !== null) return;
  const exited = once(gateway.child, 'exit');
  gateway.child.kill('SIGKILL');
  await exited;
}

beforeAll(async () => {
  provider = await startModelProvider();
});
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => kill(gateway)));
  await provider.close();
});

describeWith('emulators', 'turns of several gateways on one Firestore', () => {
  const project = `turns-${randomBytes(4).toString('hex')}`;
  let a: LocalGateway;
  let b: LocalGateway;
  /** Its lease and its heartbeat outlast the tests. */
  let owner: LocalGateway;

  beforeAll(async () => {
    const host = inject('firestoreHost');
    const patient = { GATEWAY_LEASE_MS: '600000', GATEWAY_HEARTBEAT_MS: '200000' };
    [a, b, owner] = await Promise.all([
      startGateway(host, project),
      startGateway(host, project),
      startGateway(host, project, patient),
    ]);
    // Both have loaded what a first turn and a first watch need.
    await Promise.all([a, b, owner].map(({ url }) => untilServing(url)));
  });

  it('a cancel on another instance closes the owner’s request to the model, notified by the watch, long before any heartbeat', async () => {
    // How fast the watch is, the bench measures.
    for (let round = 0; round < 5; round++) {
      const session_id = `cancel-${round}`;
      const requested = provider.next();
      const running = follow(owner.url, 'conversation.prompt', { prompt: '[[chunks 500 every 20]]', session_id });
      await running.until(12);
      const { result } = await rpc(b.url, 'conversation.cancel', { session_id });
      expect(result).toMatchObject({ cancelled: true, was_running: true });
      expect((await (await requested).done).by).toBe('client');
      expect((await running.answer)?.error).toMatchObject({ code: 499 });
    }
  }, 60_000);

  describe('kill -9 in mid-stream', () => {
    const [session_id, queuedSession] = ['killed', 'killed-then-prompted'];
    /** Events that the client has read when it leaves, before the end of what is stored. */
    const SEEN = 10;
    let running: EventReader;
    let waiting: Promise<RpcAnswer>;

    beforeAll(async () => {
      const victim = await startGateway(inject('firestoreHost'), project);
      // Longer than what follows takes on a busy machine; the kill ends it.
      const prompt = '[[chunks 5000 every 40]]';
      running = follow(victim.url, 'conversation.prompt', { prompt, session_id });
      const other = follow(victim.url, 'conversation.prompt', { prompt, session_id: queuedSession });
      await Promise.all([running.until(SEEN), other.until(SEEN)]);
      const params = { prompt: 'after you', session_id: queuedSession, on_busy: 'queue' };
      waiting = rpc(b.url, 'conversation.prompt', params);
      await until(
        () => rpc(a.url, 'conversation.status', { session_id: queuedSession }),
        ({ result }) => result?.queued === 1,
      );
      // Events are stored every 2 s at first.
      const stored = (): Promise<RpcAnswer> => rpc(b.url, 'conversation.resume', { session_id });
      await until(stored, ({ result }) => Number(result?.last_seq) > SEEN);
      await kill(victim);
      await running.answer;
    });

    it('another instance settles the turn of a killed one, replays its events from the cursor, and continues', async () => {
      const lastSeen = running.events[SEEN - 1];
      const resumed = follow(b.url, 'conversation.resume', { session_id }, { 'last-event-id': lastSeen?.id ?? '' });
      const { result } = (await resumed.answer) ?? {};
      expect(result).toMatchObject({ status: 'interrupted', session_id });
      // No gap, no duplicate, one end.
      const seqs = resumed.events.map(({ seq }) => seq);
      expect(seqs).toEqual(seqs.map((_, index) => (lastSeen?.seq ?? 0) + 1 + index));
      expect(resumed.events.at(-1)?.event).toMatchObject({ TurnAborted: { reason: 'interrupted' } });
      const { result: history } = await rpc(b.url, 'conversation.history', { session_id });
      const content = textOf([...running.events.slice(0, SEEN), ...resumed.events]);
      expect(history?.messages).toMatchObject([{ role: 'user' }, { role: 'assistant', partial: true, content }]);
      const { result: next } = await rpc(a.url, 'conversation.prompt', { prompt: '[[say on we go]]', session_id });
      expect(next).toMatchObject({ content: 'on we go' });
    });

    it('a prompt that waits on another instance runs once the lease is over', async () => {
      expect((await waiting).result).toMatchObject({ content: 'You said: after you' });
    });
  });

  it('a turn of a killed instance is cancelled on another one without waiting for the lease; the session is usable', async () => {
    const session_id = 'killed-then-cancelled';
    const running = follow(owner.url, 'conversation.prompt', { prompt: '[[chunks 500 every 40]]', session_id });
    await running.until(50);
    await kill(owner);
    const { result } = await rpc(b.url, 'conversation.cancel', { session_id });
    expect(result).toMatchObject({ cancelled: true });
    const { result: next } = await rpc(b.url, 'conversation.prompt', { prompt: 'again', session_id });
    expect(next).toMatchObject({ content: 'You said: again' });
  }, 60_000);

  it('one of 200 prompts at once on one session runs, 199 are refused as busy, none is lost', async () => {
    const session_id = 'contended';
    const before = provider.calls;
    // The one that runs is answered after all the others have been.
    const gate = Promise.withResolvers<void>();
    provider.behave(() => ({ text: 'for one', gate: () => gate.promise }));
    let answered = 0;
    const answers = await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const answer = await rpc((index % 2 === 0 ? a : b).url, 'conversation.prompt', { prompt: 'me', session_id });
        answered += 1;
        if (answered === 199) gate.resolve();
        return answer;
      }),
    );
    provider.behave();
    expect(answers.filter(({ result }) => result !== undefined)).toHaveLength(1);
    const reasons = answers.flatMap(({ error }) => (error === undefined ? [] : [error.data.reason]));
    expect(reasons.filter((reason) => reason !== 'session_busy')).toEqual([]);
    expect(reasons).toHaveLength(199);
    expect(provider.calls - before).toBe(1);
  }, 60_000);

  it('a provider that does not answer, always answers 429 or cuts its stream ends the turn, in at most 3 calls', async () => {
    const impatient = await startGateway(inject('firestoreHost'), project, { GATEWAY_TURN_TIMEOUT_MS: '1500' });
    const cases = [
      { prompt: '[[hang headers]]', reason: 'upstream_timeout', calls: 1 },
      { prompt: '[[status 429]]', reason: 'upstream_error', calls: 3 },
      { prompt: '[[chunks 10]] [[cut]]', reason: 'upstream_error', calls: 1 },
    ];
    for (const { prompt, reason, calls } of cases) {
      const before = provider.calls;
      const gateway = reason === 'upstream_timeout' ? impatient : a;
      const { error } = await rpc(gateway.url, 'conversation.prompt', { prompt, session_id: prompt });
      expect(error?.data).toMatchObject({ reason });
      expect(provider.calls - before).toBe(calls);
      const status = await rpc(b.url, 'conversation.status', { session_id: prompt });
      expect(status.result).toMatchObject({ status: 'failed', turn: { status: 'failed' } });
    }
  }, 60_000);
});
