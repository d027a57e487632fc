// What the engine tests share: the three wire formats as cases, an engine that talks to the fake provider, and a reader of turns.
import { OAuth2Client } from 'google-auth-library';
import { createDirectEngine, type DirectOptions } from '../../../shared/engines/direct.ts';
import type { Engine, EngineEvent, Message, Outcome, TurnInput } from '../../../shared/engines/engine.ts';
import { RpcError } from '../../../shared/errors.ts';
import type { ModelProvider } from '../../fakes/model-provider.ts';

export const KEY = 'sk-secret-of-the-test';

/** One per wire format; every guarantee of the direct engine is shown for each. */
export const CASES = [
  { provider: 'anthropic', model: 'anthropic/claude-sonnet-4-5', label: 'Anthropic' },
  { provider: 'openai', model: 'openai/gpt-5', label: 'OpenAI' },
  { provider: 'google', model: 'google/gemini-2.5-flash', label: 'Google Vertex AI' },
] as const;

/** The real engine with the real SDK providers, pointed at the fake's socket. Retries wait next to nothing unless told. */
export function createTestEngine(provider: ModelProvider, options: DirectOptions = {}): Engine {
  const authClient = new OAuth2Client();
  authClient.setCredentials({ access_token: KEY, expiry_date: Date.now() + 3_600_000 });
  const base = { apiKey: KEY, baseUrl: provider.url };
  return createDirectEngine(
    { anthropic: base, openai: base, google: { project: 'a-project', location: 'europe-west1' } },
    {
      retryMs: 2,
      google: {
        authClient,
        baseUrl: `${provider.url}/v1/projects/a-project/locations/europe-west1/publishers/google`,
      },
      ...options,
    },
  );
}

export interface Ask {
  readonly model: string;
  readonly prompt?: string;
  readonly messages?: readonly Message[];
  readonly instructions?: string;
  readonly signal?: AbortSignal;
  readonly retryWaitMsMax?: number;
  /** Called with each event before the next one is asked for. */
  readonly onEvent?: (event: EngineEvent) => void | Promise<void>;
}

/** Runs a turn with any input to its end. */
export async function runTurn(
  engine: Engine,
  { signal = new AbortController().signal, ...turn }: Partial<TurnInput> & { model: string; signal?: AbortSignal },
): Promise<{ events: EngineEvent[]; outcome: Outcome }> {
  const events: EngineEvent[] = [];
  const messages = [{ role: 'user', content: 'hello' }] as const;
  const run = engine.run({ turnId: 'turn_1', conversationId: 'conv_1', messages, ...turn }, { signal });
  for (;;) {
    const step = await run.next();
    if (step.done) return { events, outcome: step.value };
    events.push(step.value);
  }
}

/** Runs a turn to its end. */
export async function ask(engine: Engine, request: Ask): Promise<{ events: EngineEvent[]; outcome: Outcome }> {
  const events: EngineEvent[] = [];
  const { model, prompt = 'hello', messages = [{ role: 'user', content: prompt }], instructions } = request;
  const wait = request.retryWaitMsMax === undefined ? {} : { retryWaitMsMax: request.retryWaitMsMax };
  const turn = { turnId: 'turn_1', conversationId: 'conv_1', model, messages, ...wait };
  const run = engine.run(instructions === undefined ? turn : { ...turn, instructions }, {
    signal: request.signal ?? new AbortController().signal,
  });
  for (;;) {
    const step = await run.next();
    if (step.done) return { events, outcome: step.value };
    events.push(step.value);
    await request.onEvent?.(step.value);
  }
}

/** Runs a turn that must fail with an RpcError, and returns it with the events that came before. */
export async function askToFail(engine: Engine, request: Ask): Promise<{ error: RpcError; events: EngineEvent[] }> {
  const events: EngineEvent[] = [];
  const onEvent = async (event: EngineEvent): Promise<void> => {
    events.push(event);
    await request.onEvent?.(event);
  };
  try {
    await ask(engine, { ...request, onEvent });
  } catch (error) {
    if (error instanceof RpcError) return { error, events };
    throw error;
  }
  throw new Error('the turn succeeded');
}

/** The deltas, put together. */
export function textOf(events: readonly EngineEvent[]): string {
  return events.map((event) => ('AgentMessageDelta' in event ? event.AgentMessageDelta.delta : '')).join('');
}
