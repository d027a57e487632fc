// The engine that calls a provider's API itself, at the provider level of the AI SDK: one streamed call per turn, retried at most twice
// before the first token. Owns the way from a stream to events; refuses to call an answer complete without the provider's end marker.

import { setTimeout as sleep } from 'node:timers/promises';
import type { LanguageModelV4, LanguageModelV4CallOptions, LanguageModelV4Prompt } from '@ai-sdk/provider';
import { type Clock, systemClock } from '../clock.ts';
import type { Config } from '../config.ts';
import { NO_USAGE, type Usage } from '../conversations/usage.ts';
import { RpcError } from '../errors.ts';
import { type CallGuard, createCallGuard, createGuardedFetch, type Deadlines } from './call-guard.ts';
import type { Engine, EngineEvent, Outcome, TurnInput } from './engine.ts';
import { type Failure, toFailure, toTimeout, toTooLarge, withRetryAfter } from './failures.ts';
import { createModels, type GoogleOptions, isProviderName, PROVIDERS, type ProviderName } from './providers.ts';

export interface DirectOptions {
  /** Default: 60 s to the first byte, 120 s of silence, 10 min in all. */
  readonly deadlines?: Partial<Deadlines>;
  /** Upper bound of the wait before the first retry; doubles. Default 500 ms. */
  readonly retryMs?: number;
  /** Bound of an answer and its reasoning, UTF-8. Default 4 MiB. */
  readonly answerBytesMax?: number;
  readonly google?: GoogleOptions;
  /** Where the credentials of a login are used. Default: the providers' own. */
  readonly providerUrls?: Config['providerUrls'];
  readonly clock?: Clock;
  /** 0 <= x < 1, for the jitter. */
  readonly random?: () => number;
}

const DEADLINES: Deadlines = { firstByteMs: 60_000, idleMs: 120_000, totalMs: 600_000 };
const CALLS_MAX = 3;
const RETRY_AFTER_MAX_MS = 30_000;
/** An event around a delta is some 300 bytes, so the bytes received may be many times the answer's. */
const RECEIVED_BYTES_MAX = 64 << 20;

/** Serves `anthropic/...`, `openai/...` and `google/...` of the configured providers. Errors: see Engine. */
export function createDirectEngine(
  providers: Config['providers'],
  options: DirectOptions = {},
): Engine & { warm(provider: ProviderName): void } {
  const deadlines = { ...DEADLINES, ...options.deadlines };
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const answerBytesMax = options.answerBytesMax ?? 4 << 20;
  const guards = new WeakMap<AbortSignal, CallGuard>();
  const models = createModels(providers, {
    fetch: createGuardedFetch(guards),
    ...(options.google === undefined ? {} : { google: options.google }),
    ...(options.providerUrls && { providerUrls: options.providerUrls }),
  });

  async function* run(
    turn: TurnInput,
    { signal }: { signal: AbortSignal },
  ): AsyncGenerator<EngineEvent, Outcome, void> {
    const { provider, modelId } = split(turn.model);
    const endsAtMs = performance.now() + deadlines.totalMs;
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted();
      const guard = createCallGuard({
        ...deadlines,
        totalMs: endsAtMs - performance.now(),
        signal,
        receivedBytesMax: Math.max(RECEIVED_BYTES_MAX, answerBytesMax * 2),
        toTimeout: (waitedMs) => toTimeout(provider, waitedMs),
        toTooLarge: () => toTooLarge(provider),
      });
      guards.set(guard.signal, guard);
      const progress = { started: false };
      let failure: Failure;
      let whole = false;
      try {
        const loading = models.get(provider, modelId, turn.credential).catch(maskAsInternal);
        const model = await Promise.race([loading, guard.aborted]);
        const call = { ...models.callOptions(provider), prompt: toPrompt(turn), abortSignal: guard.signal };
        const outcome = yield* answer(provider, modelId, model, call, guard, answerBytesMax, progress);
        whole = true;
        return outcome;
      } catch (thrown) {
        signal.throwIfAborted();
        const reason = guard.signal.aborted ? guard.signal.reason : thrown;
        failure = toFailure(provider, modelId, reason, { attempt, now: clock.now(), credential: turn.credential });
      } finally {
        guard.close(whole);
      }
      const backoffMs = (options.retryMs ?? 500) * 2 ** (attempt - 1);
      const waitMs = (failure.retryAfterMs ?? 0) + random() * backoffMs;
      const patience = Math.min(RETRY_AFTER_MAX_MS + backoffMs, endsAtMs - performance.now());
      if (progress.started || !failure.retry || attempt === CALLS_MAX || waitMs > patience) {
        throw withRetryAfter(failure.error, failure.retryAfterMs ?? (failure.retry ? backoffMs * 2 : undefined));
      }
      await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }

  return { run, warm: (provider) => void models.get(provider, 'warm').catch(() => undefined) };
}

/** One call: yields its events, returns its outcome; throws what the SDK throws, or an RpcError for an answer that is not one. */
async function* answer(
  provider: ProviderName,
  modelId: string,
  model: LanguageModelV4,
  call: LanguageModelV4CallOptions,
  guard: CallGuard,
  answerBytesMax: number,
  progress: { started: boolean },
): AsyncGenerator<EngineEvent, Outcome, void> {
  const { stream } = await Promise.race([model.doStream(call), guard.aborted]);
  const reader = stream.getReader();
  let content = '';
  let reasoning = '';
  let sizeBytes = 0;
  let answeredBy = modelId;
  let finish: { readonly reason: string; readonly usage: Usage } | undefined;
  const grow = (delta: string): void => {
    sizeBytes += Buffer.byteLength(delta);
    if (sizeBytes > answerBytesMax) throw toTooLarge(provider);
  };
  const read = () => reader.read().catch((error: unknown) => (finish === undefined ? Promise.reject(error) : DONE));
  for (let step = await read(); !step.done; step = await read()) {
    const part = step.value;
    let event: EngineEvent | undefined;
    if (part.type === 'text-delta' && part.delta !== '') {
      grow(part.delta);
      content += part.delta;
      event = { AgentMessageDelta: { delta: part.delta } };
    } else if (part.type === 'reasoning-delta') {
      grow(part.delta);
      reasoning += part.delta;
    } else if (part.type === 'reasoning-end' && reasoning !== '') {
      event = { AgentReasoning: { text: reasoning } };
      reasoning = '';
    } else if (part.type === 'response-metadata') {
      answeredBy = part.modelId ?? answeredBy;
    } else if (part.type === 'error') {
      throw part.error;
    } else if (part.type === 'finish') {
      finish = {
        reason: part.finishReason.unified,
        usage: toUsage(part.usage.inputTokens.total, part.usage.outputTokens.total),
      };
      guard.finishing();
    }
    if (event === undefined) continue;
    progress.started = true;
    guard.hold();
    yield event;
    guard.release();
  }
  const finishReason = toFinishReason(provider, finish?.reason, content);
  const usage = finish?.usage ?? NO_USAGE;
  progress.started = true;
  yield { TokenCount: usage };
  return { content, usage, model: `${provider}/${answeredBy}`, finishReason };
}

const DONE = { done: true, value: undefined } as const;

/** The SDK says `interrupted` for a body that ends before the end marker, or leaves the finish out when nothing had come. */
function toFinishReason(
  provider: ProviderName,
  reason: string | undefined,
  content: string,
): NonNullable<Outcome['finishReason']> {
  const { label } = PROVIDERS[provider];
  const fail = (message: string, retryable: boolean) =>
    new RpcError('upstream_error', { message, data: { provider }, retryable });
  if (reason === undefined || reason === 'interrupted' || reason === 'error')
    throw fail(`${label} cut its answer short`, true);
  if (reason === 'stop') return 'stop';
  if (content !== '') return reason === 'length' ? 'length' : reason === 'content-filter' ? 'content_filter' : 'other';
  if (reason === 'content-filter') throw fail(`${label} declined to answer (content filter)`, false);
  throw fail(`${label} ended without an answer (${reason})`, false);
}

/** A provider that cannot even be loaded is the deployment's mistake, not the provider's. */
function maskAsInternal(cause: unknown): never {
  throw new RpcError('internal', { cause });
}

function toPrompt(turn: TurnInput): LanguageModelV4Prompt {
  const prompt: LanguageModelV4Prompt = [];
  if (turn.instructions !== undefined && turn.instructions !== '')
    prompt.push({ role: 'system', content: turn.instructions });
  for (const { role, content } of turn.messages) {
    // Providers refuse empty text, which an aborted turn may have left in the history.
    if (content !== '') prompt.push({ role, content: [{ type: 'text', text: content }] });
  }
  return prompt;
}

function toUsage(input_tokens = 0, output_tokens = 0): Usage {
  return { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
}

function split(model: string): { provider: ProviderName; modelId: string } {
  const slash = model.indexOf('/');
  const provider = model.slice(0, slash);
  if (slash > 0 && isProviderName(provider)) return { provider, modelId: model.slice(slash + 1) };
  throw new RpcError('invalid_params', { data: { issues: [{ path: 'model', message: 'unknown provider' }] } });
}
