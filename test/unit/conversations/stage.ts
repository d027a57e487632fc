// Gateways with nothing but real parts, as many as a test needs, on one store, with a model provider behind a real socket. Time can be
// moved; the line from an instance to the store can be cut.
import type { ZodObject, ZodType, z } from 'zod';
import { SCOPES } from '../../../shared/auth/keys.ts';
import { randomIds, type WallClock } from '../../../shared/clock.ts';
import { type Environment, loadConfig } from '../../../shared/config.ts';
import type { NumberedEvent } from '../../../shared/conversations/event-log.ts';
import { createServices } from '../../../shared/create-services.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createLocalBus } from '../../../shared/events/local-bus.ts';
import { createLogger } from '../../../shared/log.ts';
import { createMeter } from '../../../shared/meter.ts';
import { conversationPrompt } from '../../../shared/methods/conversation.prompt.ts';
import type { MethodContext } from '../../../shared/methods/define-method.ts';
import { HTTP_ANSWER_BYTES_MAX } from '../../../shared/rpc/answers.ts';
import type { MethodDefinition } from '../../../shared/rpc/method.ts';
import type { Services } from '../../../shared/services.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded.ts';
import type { Ref, Store, Write } from '../../../shared/store/store.ts';
import { type ModelProvider, startModelProvider } from '../../fakes/model-provider.ts';
import {
  type Counted,
  countOperations,
  createTestClock,
  cutOff,
  type Line,
  type TestClock,
} from '../rate-limit/stores.ts';

export const MODEL = 'anthropic/claude-sonnet-4-5';

export interface Instance {
  readonly services: Services;
  readonly counted: Counted;
  /** `down` refuses at once, `deaf` does the work and loses the answer. */
  readonly line: Line;
  readonly logged: string[];
  call<P extends ZodObject, R extends ZodType>(
    method: MethodDefinition<MethodContext, P, R>,
    params: z.input<P>,
    how?: How,
  ): Promise<z.output<R>>;
  /** As `call` with `conversation.prompt`, on the session `s` unless told. */
  prompt(
    prompt: string,
    params?: Partial<PromptParams>,
    how?: How,
  ): Promise<z.output<typeof conversationPrompt.result>>;
  /** Starts a prompt and hands over its events as they come. */
  stream(prompt: string, params?: Partial<PromptParams>, how?: How): Stream;
}

type PromptParams = z.input<typeof conversationPrompt.params>;

export interface How {
  readonly owner?: string;
  readonly hints?: MethodContext['hints'];
  readonly transport?: MethodContext['transport'];
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: NumberedEvent) => void | Promise<void>;
}

export interface Stream {
  readonly events: NumberedEvent[];
  readonly answer: Promise<z.output<typeof conversationPrompt.result>>;
  /** Resolves when an event that satisfies `is` has come. */
  until(is: (event: NumberedEvent) => boolean): Promise<void>;
}

export interface Stage {
  readonly provider: ModelProvider;
  readonly clock: TestClock;
  readonly store: Store;
  /** Every document ever written and still there, `collection/id`. */
  documents(): Promise<string[]>;
  instance(env?: Environment): Promise<Instance>;
  close(): Promise<void>;
}

export interface StageOptions {
  /** Opens the store all instances share; default: an embedded one in memory. */
  readonly openStore?: (clock: WallClock) => Store;
  readonly env?: Environment;
}

export async function createStage({ openStore, env }: StageOptions = {}): Promise<Stage> {
  const provider = await startModelProvider();
  const clock = createRunningClock();
  const opened = openStore?.(clock) ?? createEmbeddedStore({ path: ':memory:', clock });
  const { store, refs } = rememberRefs(opened);
  const instances: Services[] = [];
  return {
    provider,
    clock,
    store,
    async documents() {
      const snapshots = await store.get([...refs.values()]);
      return snapshots.flatMap(({ ref, data }) => (data === undefined ? [] : [`${ref.collection}/${ref.id}`])).sort();
    },
    async instance(more = {}) {
      const counted = countOperations(store);
      const line = cutOff(counted);
      const logged: string[] = [];
      const log = createLogger({ format: 'json', write: (text) => void logged.push(text) });
      const config = loadConfig({
        GATEWAY_LIMITS: '1000000/minute',
        ANTHROPIC_API_KEY: 'sk-secret-of-the-test',
        ANTHROPIC_BASE_URL: provider.url,
        MODEL,
        ...env,
        ...more,
      });
      const services = await createServices(config, {
        store: line,
        clock,
        log,
        bus: createLocalBus({ log }),
        ids: randomIds,
      });
      instances.push(services);
      return toInstance(services, counted, line, logged);
    },
    async close() {
      await Promise.all(instances.map((services) => services.conversations.drain(0)));
      await provider.close();
      await opened.close();
    },
  };
}

function toInstance(services: Services, counted: Counted, line: Line, logged: string[]): Instance {
  const call: Instance['call'] = async (method, params, how = {}) => {
    const { owner = 'default', hints = {}, transport = 'http', signal = new AbortController().signal } = how;
    const context: MethodContext = {
      services,
      registry: new Map(),
      caller: { keyId: owner, scopes: new Set(SCOPES), limits: services.config.limits },
      signal,
      requestId: 'req_1',
      meter: createMeter(),
      transport,
      hints,
      notify: (_, params) => how.onEvent?.(params as NumberedEvent),
      connection: undefined,
      answerBytesMax: HTTP_ANSWER_BYTES_MAX,
    };
    return method.result.parse(await method.handle(method.params.parse(params), context));
  };
  const prompt: Instance['prompt'] = (text, params = {}, how = {}) =>
    call(conversationPrompt, { prompt: text, session_id: 's', ...params }, how);
  return {
    services,
    counted,
    line,
    logged,
    call,
    prompt,
    stream(text, params = {}, how = {}) {
      const events: NumberedEvent[] = [];
      const waiting = new Set<() => void>();
      const onEvent = async (event: NumberedEvent): Promise<void> => {
        events.push(event);
        for (const look of waiting) look();
        await how.onEvent?.(event);
      };
      const answer = prompt(text, params, { transport: 'sse', ...how, onEvent });
      answer.catch(() => {});
      return {
        events,
        answer,
        until: (is) =>
          new Promise((resolve, reject) => {
            const look = (): void => {
              if (events.some(is)) resolve();
            };
            waiting.add(look);
            look();
            answer.then(look, reject);
          }),
      };
    },
  };
}

/** The RpcError a call must fail with. */
export async function failure(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RpcError) return error;
    throw error;
  }
  throw new Error('the call succeeded');
}

export function isDelta({ event }: NumberedEvent): boolean {
  return 'AgentMessageDelta' in event;
}

export function isTerminal({ event }: NumberedEvent): boolean {
  return 'TaskComplete' in event || 'TurnAborted' in event || 'Error' in event;
}

/** Deltas of a stream, put together. */
export function deltas(events: readonly NumberedEvent[]): string {
  return events.map(({ event }) => ('AgentMessageDelta' in event ? event.AgentMessageDelta.delta : '')).join('');
}

/** Goes on by itself, and can be moved ahead. */
function createRunningClock(): Stage['clock'] {
  const moved = createTestClock(0);
  return {
    now: () => Date.now() + moved.now(),
    monotonic: () => performance.now() + moved.monotonic(),
    advance: moved.advance,
    step: moved.step,
  };
}

function rememberRefs(opened: Store): { readonly store: Store; readonly refs: ReadonlyMap<string, Ref> } {
  const refs = new Map<string, Ref>();
  const remember = (writes: readonly Write[]): void => {
    for (const { ref } of writes) refs.set(`${ref.collection}/${ref.id}`, ref);
  };
  const store: Store = {
    ...opened,
    commit(writes, options) {
      remember(writes);
      return opened.commit(writes, options);
    },
    lock: (wanted, compute, options) =>
      opened.lock(
        wanted,
        (snapshots) => {
          const decision = compute(snapshots);
          remember(decision.writes);
          return decision;
        },
        options,
      ),
  };
  return { store, refs };
}
