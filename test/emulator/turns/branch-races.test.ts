// When two gateway processes edit, fork, cancel and delete the same sessions at once, no dropped message is sent to the
// model again, and no answer of an idempotency key changes. On the Firestore emulator.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { type RpcAnswer, rpc, untilServing } from '../../support/fixtures/clients/turn-client.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { createRandom, type Random } from '../../support/random.ts';
import { describeWith } from '../../support/requirements.ts';

const SESSIONS = 4;
const CALLS = 22;
const SEED = 20;

interface Answered {
  readonly params: object;
  readonly result: unknown;
}

/** What the calls on one session have shown. */
interface Observed {
  readonly number: number;
  readonly session_id: string;
  readonly answered: Answered[];
  readonly forks: { readonly session_id: string; readonly requestsBefore: number }[];
  /** Numbers of the provider's requests before the call and after its response. */
  readonly deletes: { readonly before: number; readonly after: number }[];
  prompts: number;
}

describeWith('emulators', 'two gateways that edit the same sessions', () => {
  let provider: ModelProvider;
  let gateways: LocalGateway[] = [];

  beforeAll(async () => {
    provider = await startModelProvider();
    // A prompt `p1x2;` is answered with `a1x2;`, after a while in which other calls arrive. Prompts that follow one
    // another without an answer arrive as one message.
    provider.behave(({ prompt }) => ({ chunks: [answerOf(tokensOf(prompt).at(-1))], everyMs: 15 }));
    const project = `branches-${randomBytes(4).toString('hex')}`;
    gateways = await Promise.all([1, 2].map(() => startGateway(project, provider.url)));
    await Promise.all(gateways.map(({ url }) => untilServing(url)));
  });
  afterAll(async () => {
    await Promise.all(gateways.map((gateway) => gateway.stop()));
    await provider.close();
  });

  /** The messages of each request for a session, in the order of arrival; the prompt is last. */
  const requestsOf = (number: number) =>
    provider.requests
      .map(({ body }, index) => ({ index, tokens: tokensOf(body) }))
      .filter(({ tokens }) => tokens.at(-1)?.startsWith(`p${number}x`));

  it('two gateways that edit one session send and copy no dropped message, and keep every answered key', async () => {
    const random = createRandom(SEED);
    const sessions = Array.from({ length: SESSIONS }, (_, number): Observed => {
      const session_id = `raced-${number}`;
      return { number, session_id, answered: [], forks: [], deletes: [], prompts: 0 };
    });
    for (const observed of sessions) {
      // In half of the sessions nothing is deleted, because a deleted session frees its idempotency keys.
      const canDelete = observed.number % 2 === 1;
      await Promise.all(gateways.map(({ url }) => drive(url, observed, random.fork(), canDelete)));
    }
    expect(provider.requests.length).toBeGreaterThan(SESSIONS * 5);
    for (const observed of sessions) {
      const dropped = expectNothingDroppedIsSent(observed);
      await expectForks(observed, dropped);
      if (observed.deletes.length === 0) await expectSameAnswers(observed);
      await expectHistorySent(observed);
    }
  }, 120_000);

  async function drive(url: string, observed: Observed, random: Random, canDelete: boolean): Promise<void> {
    const { session_id, answered } = observed;
    for (let call = 0; call < CALLS; call++) {
      const chosen = random.next();
      if (chosen < 0.08) await rpc(url, 'conversation.cancel', { session_id });
      else if (chosen < 0.2) {
        const requestsBefore = provider.requests.length;
        const { result } = await rpc(url, 'conversation.fork', { session_id });
        if (result !== undefined) observed.forks.push({ session_id: String(result.session_id), requestsBefore });
      } else if (chosen < 0.25 && canDelete) {
        const before = provider.requests.length;
        await rpc(url, 'conversation.delete', { session_id });
        observed.deletes.push({ before, after: provider.requests.length });
      } else if (chosen < 0.35 && answered.length > 0 && !canDelete) {
        await expectSame(url, random.pick(answered));
      } else {
        const prompt = `p${observed.number}x${observed.prompts++};`;
        const after_seq = random.chance(0.5) ? random.int(0, 6) : undefined;
        const on_busy = random.pick(['reject', 'queue', 'queue', 'interrupt']);
        const params = {
          prompt,
          session_id,
          on_busy,
          idempotency_key: prompt,
          ...(after_seq !== undefined && { after_seq }),
        };
        const { result, error } = await rpc(url, 'conversation.prompt', params);
        if (result !== undefined) answered.push({ params, result });
        else expect(['session_busy', 'cancelled', 'invalid_params', 'not_found']).toContain(error?.data.reason);
      }
    }
  }

  /** Returns the dropped messages, each with the number of the request that came without it. */
  function expectNothingDroppedIsSent({ number, deletes }: Observed): ReadonlyMap<string, number> {
    const dropped = new Map<string, number>();
    const seen = new Map<string, number>();
    let branch: readonly string[] = [];
    for (const { index, tokens } of requestsOf(number)) {
      const before = tokens.slice(0, -1);
      for (const token of before) {
        expect(dropped.has(token), `${token} in request ${index}, dropped in ${dropped.get(token)}`).toBe(false);
        const erased = deletes.some((erasure) => (seen.get(token) ?? index) < erasure.before && erasure.after <= index);
        expect(erased, `${token} in request ${index}, after its session was deleted`).toBe(false);
      }
      for (const token of branch) if (!before.includes(token)) dropped.set(token, index);
      const prompt = tokens.at(-1) ?? '';
      branch = [...before, prompt, answerOf(prompt)];
      for (const token of branch) if (!seen.has(token)) seen.set(token, index);
    }
    return dropped;
  }

  async function expectForks({ forks }: Observed, dropped: ReadonlyMap<string, number>): Promise<void> {
    for (const { session_id, requestsBefore } of forks) {
      const messages = await historyOf(session_id);
      expect(messages.map(({ seq }) => seq)).toEqual(messages.map((_, index) => index + 1));
      const tokens = tokensOf(messages.map(({ content }) => content));
      expect(tokens.filter((token) => (dropped.get(token) ?? requestsBefore) < requestsBefore)).toEqual([]);
      expect(tokens).toHaveLength(messages.length);
    }
  }

  async function expectSameAnswers({ answered }: Observed): Promise<void> {
    expect(answered.length).toBeGreaterThan(0);
    for (const each of answered) for (const { url } of gateways) await expectSame(url, each);
  }

  async function expectSame(url: string, { params, result }: Answered): Promise<void> {
    const again = await rpc(url, 'conversation.prompt', params);
    expect(again.result).toEqual(result);
  }

  /** Both gateways send exactly the stored messages. */
  async function expectHistorySent(observed: Observed): Promise<void> {
    for (const { url } of gateways) {
      const { session_id, number } = observed;
      const stored = (await rpc(url, 'conversation.status', { session_id })).result?.status === 'not_found';
      const before = stored ? [] : tokensOf((await historyOf(session_id)).map(({ content }) => content));
      const prompt = `p${number}x${observed.prompts++};`;
      const { result } = await rpc(url, 'conversation.prompt', { prompt, session_id, on_busy: 'queue' });
      expect(result).toMatchObject({ content: answerOf(prompt) });
      expect(requestsOf(number).at(-1)?.tokens).toEqual([...before, prompt]);
    }
  }

  async function historyOf(session_id: string) {
    const url = gateways[0]?.url ?? '';
    const { result }: RpcAnswer = await rpc(url, 'conversation.history', { session_id, limit: 200 });
    return (result?.messages ?? []) as { readonly seq: number; readonly content: string }[];
  }
});

function tokensOf(value: unknown): string[] {
  return Array.from(JSON.stringify(value).matchAll(/[pa]\d+x\d+;/g), ([token]) => token);
}

function answerOf(prompt = 'ready'): string {
  return prompt.replace('p', 'a');
}

function startGateway(project: string, providerUrl: string): Promise<LocalGateway> {
  return startLocalGateway({
    env: {
      FIRESTORE_EMULATOR_HOST: inject('firestoreHost'),
      GOOGLE_CLOUD_PROJECT: project,
      METADATA_SERVER_DETECTION: 'none',
      GATEWAY_API_KEY: 'dev-key',
      GATEWAY_BUS: 'local',
      GATEWAY_LIMITS: '1000000/minute',
      ANTHROPIC_API_KEY: 'sk-test',
      ANTHROPIC_BASE_URL: providerUrl,
      MODEL: 'anthropic/claude-sonnet-4-5',
    },
  });
}
