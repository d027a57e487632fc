// A turn does not depend on its client: function and companion from the built bundles on one Firestore. The test
// suspends a function without requests (SIGSTOP), as the platform does, and ends the companion during a turn.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { follow, rpc, textOf } from '../../support/fixtures/clients/turn-client.ts';
import { createDeployed, type Deployed, type DeployedPair } from '../../support/fixtures/gateway/deployed.ts';
import { describeWith } from '../../support/requirements.ts';

const CHUNKS = ['one ', 'two ', 'three ', 'four '];
const SLOW_MS = 60_000;

describeWith('emulators', 'turns of a function on its companion', () => {
  let provider: ModelProvider;
  let deployed: Deployed;
  let first: DeployedPair;
  let other: DeployedPair;

  beforeAll(async () => {
    provider = await startModelProvider();
    deployed = await createDeployed({
      FIRESTORE_EMULATOR_HOST: inject('firestoreHost'),
      GOOGLE_CLOUD_PROJECT: `relayed-${randomBytes(4).toString('hex')}`,
      GATEWAY_BUS: 'local',
      GATEWAY_API_KEY: 'dev-key',
      GATEWAY_LIMITS: '100000/minute',
      ANTHROPIC_API_KEY: 'sk-test',
      ANTHROPIC_BASE_URL: provider.url,
      MODEL: 'anthropic/claude-sonnet-4-5',
    });
    [first, other] = await Promise.all([deployed.start(), deployed.start()]);
  }, 120_000);
  afterAll(async () => {
    await deployed?.close();
    await provider?.close();
  });

  /** The model stops after two chunks until `release`. */
  function holdModel(): { release(): void } {
    const gate = Promise.withResolvers<void>();
    provider.behave(() => ({
      chunks: CHUNKS,
      gate: (index) => (index === 2 ? gate.promise : Promise.resolve()),
    }));
    return {
      release() {
        gate.resolve();
        provider.behave();
      },
    };
  }

  it(
    'the client leaves and the function is stopped: the turn completes, and another instance resumes it',
    async () => {
      const session_id = 'left';
      const model = holdModel();
      const stream = follow(first.fn.url, 'conversation.prompt', { prompt: 'hi', session_id });
      await stream.until(3);
      stream.abort();
      first.fn.child.kill('SIGSTOP');
      model.release();
      const seen = stream.events[1];
      const resumed = follow(other.fn.url, 'conversation.resume', { session_id }, { 'last-event-id': seen?.id ?? '' });
      const { result } = (await resumed.answer) ?? {};
      expect(result).toMatchObject({ status: 'completed', usage: { output_tokens: expect.any(Number) } });
      expect(textOf([...stream.events.slice(0, 2), ...resumed.events])).toBe(CHUNKS.join(''));
      expect(resumed.events.map(({ seq }) => seq)).toEqual(resumed.events.map((_, index) => 3 + index));
      const { result: status } = await rpc(other.fn.url, 'conversation.status', { session_id });
      expect(status).toMatchObject({ status: 'idle', metadata: { message_count: 2, usage: result?.usage } });

      first.fn.child.kill('SIGCONT');
      const again = await rpc(first.fn.url, 'conversation.prompt', { prompt: '[[say again]]', session_id });
      expect(again.result).toMatchObject({ content: 'again', session_id });
    },
    SLOW_MS,
  );

  it(
    'SIGTERM to the function lets its prompt end, and its client gets the answer',
    async () => {
      const model = holdModel();
      const requested = provider.next();
      const answer = rpc(first.fn.url, 'conversation.prompt', { prompt: 'hi' });
      await requested;
      const stopped = first.fn.stop('SIGTERM');
      model.release();
      expect((await answer).result).toMatchObject({ content: CHUNKS.join('') });
      expect(await stopped).toEqual({ code: 0, signal: null });
    },
    SLOW_MS,
  );

  it(
    'SIGTERM to a companion whose turn has no client ends the turn: another instance shows it as interrupted',
    async () => {
      const session_id = 'drained';
      const pair = await deployed.start();
      const model = holdModel();
      const stream = follow(pair.fn.url, 'conversation.prompt', { prompt: 'hi', session_id });
      await stream.until(3);
      stream.abort();
      pair.companion.child.kill('SIGTERM');
      const resumed = follow(other.fn.url, 'conversation.resume', { session_id });
      expect((await resumed.answer)?.result).toMatchObject({ status: 'interrupted', content: 'one two ' });
      expect(resumed.events.at(-1)?.event).toMatchObject({ TurnAborted: { reason: 'interrupted' } });
      expect(await pair.companion.exited).toEqual([0, null]);
      model.release();
    },
    SLOW_MS,
  );

  it(
    'the companion is killed in mid-stream: the client gets an error, another instance ends the turn and continues',
    async () => {
      const session_id = 'killed';
      // The lease of the killed instance is over soon.
      const pair = await deployed.start({ GATEWAY_LEASE_MS: '3000', GATEWAY_HEARTBEAT_MS: '1000' });
      const model = holdModel();
      const stream = follow(pair.fn.url, 'conversation.prompt', { prompt: 'hi', session_id });
      await stream.until(3);
      pair.companion.child.kill('SIGKILL');
      expect(await stream.answer).toMatchObject({ id: 1, error: { code: 503, data: { reason: 'unavailable' } } });
      const refused = await rpc(pair.fn.url, 'conversation.prompt', { prompt: 'hi', session_id });
      expect(refused).toMatchObject({ id: 1, error: { code: 503, data: { reason: 'unavailable', retryable: true } } });
      const resumed = follow(other.fn.url, 'conversation.resume', { session_id });
      expect((await resumed.answer)?.result).toMatchObject({ status: 'interrupted' });
      model.release();
      const next = await rpc(other.fn.url, 'conversation.prompt', { prompt: '[[say on]]', session_id });
      expect(next.result).toMatchObject({ content: 'on' });
    },
    SLOW_MS,
  );
});
