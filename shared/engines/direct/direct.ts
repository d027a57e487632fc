// The engine that calls a provider's API itself, at the provider level of the AI SDK: one streamed call per turn, or
// one per round where the model uses tools, each retried at most twice before its first token.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, systemClock } from '../../clock.ts';
import type { Config } from '../../config/config.ts';
import { RpcError } from '../../errors.ts';
import { type MessagePart, withoutMetadata } from '../../message-parts.ts';
import type { EngineEvent } from '../../turn-events.ts';
import { ContextOverflow } from '../context-overflow.ts';
import type { Engine, Outcome, RunOptions, TurnInput } from '../engine.ts';
import { type Failure, toFailure, toTimeout, toTooLarge, withRetryAfter } from '../failures.ts';
import { toEvent, trimTurn } from '../overflow.ts';
import { NO_TOOLS, toDeclaredTools } from '../tools/earlier-tools.ts';
import { runRounds, toCallTools } from '../tools/tool-rounds.ts';
import { type Answer, readAnswer } from './answer-stream.ts';
import { createCallGuard, type Deadlines } from './call-guard.ts';
import { callOptions } from './call-options.ts';
import { createSettings } from './call-settings.ts';
import { toPrompt } from './prompt.ts';
import { createPromptCache } from './prompt-cache.ts';
import { createGuardedFetch } from './provider-fetch.ts';
import { labelOf, wireOf } from './provider-names.ts';
import { createModels, type GoogleOptions } from './providers.ts';
import { createAnthropicRepair } from './repair-anthropic.ts';
import { createChatRepair } from './repair-chat.ts';
import { createGoogleRepair } from './repair-google.ts';
import { createOpenAiRepair } from './repair-openai.ts';

const REPAIRS = {
  anthropic: createAnthropicRepair,
  responses: createOpenAiRepair,
  google: createGoogleRepair,
  chat: createChatRepair,
};
/** Shorter values of headers are not removed from messages: they are words. */
const SECRET_CHARS_MIN = 8;

export interface DirectOptions {
  /** Default: 60 s to the first byte, 120 s of silence, 10 min in all. */
  readonly deadlines?: Partial<Deadlines>;
  /** Upper bound of the wait before the first retry; doubles. Default 500 ms. */
  readonly retryMs?: number;
  /** Bound of an answer and its reasoning, UTF-8. Default 4 MiB. */
  readonly answerBytesMax?: number;
  readonly google?: GoogleOptions;
  /** Base URLs for calls with the credentials of a login. Default: the providers' public ones. */
  readonly providerUrls?: Config['providerUrls'];
  readonly proxy?: Config['proxy'];
  readonly modelProviders?: Config['modelProviders'];
  readonly clock?: Clock;
  /** 0 <= x < 1, for the jitter. */
  readonly random?: () => number;
}

const DEADLINES: Deadlines = { firstByteMs: 60_000, idleMs: 120_000, totalMs: 600_000 };
const CALLS_MAX = 3;
/** After this many steps only the prompt is sent. */
const TRIMS_MAX = 12;
const RETRY_AFTER_MAX_MS = 30_000;
/**
 * Most received bytes of an answer. Each delta has about 300 bytes of JSON around it, so a response is much larger than
 * its text.
 */
const RECEIVED_BYTES_MAX = 64 << 20;

/** Serves the models of the configured providers and of `options.modelProviders`. Errors: see Engine. */
export function createDirectEngine(
  providers: Config['providers'],
  options: DirectOptions = {},
): Engine & { warm(provider: string): void } {
  const deadlines = { ...DEADLINES, ...options.deadlines };
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const answerBytesMax = options.answerBytesMax ?? 4 << 20;
  const models = createModels(providers, {
    fetch: (wire) => createGuardedFetch(REPAIRS[wire], options.proxy),
    ...(options.google === undefined ? {} : { google: options.google }),
    ...(options.providerUrls && { providerUrls: options.providerUrls }),
    ...(options.modelProviders && { modelProviders: options.modelProviders }),
  });
  const secretsOf = (provider: string): string[] => {
    const { openai, anthropic } = providers;
    const own = { openai: openai?.apiKey, anthropic: anthropic?.apiKey }[provider];
    const { apiKey = own, headers = {} } = options.modelProviders?.get(provider) ?? {};
    const words = Object.values(headers).filter((value) => value.length >= SECRET_CHARS_MIN);
    return apiKey === undefined ? words : [apiKey, ...words];
  };

  async function* run(turn: TurnInput, { signal, record }: RunOptions): AsyncGenerator<EngineEvent, Outcome, void> {
    const { provider, modelId, wire } = split(turn.model, options.modelProviders);
    /** The turn as it is sent; trimmed after a context overflow. */
    let sent = turn;
    let overflows = 0;
    let waitLeftMs = turn.retryWaitMsMax ?? Number.POSITIVE_INFINITY;
    const endsAtMs = performance.now() + deadlines.totalMs;
    const size = { bytes: 0, bytesMax: answerBytesMax };
    const declared = toDeclaredTools(turn);
    const tools = toCallTools(declared);
    const toolset = turn.tools ?? (declared.length === 0 ? undefined : NO_TOOLS);
    // What a provider has signed for the account of a login is of no use to another account.
    const keep = turn.credential === undefined ? record : (part: MessagePart) => record?.(withoutMetadata(part));
    const settings = createSettings(turn, labelOf(provider));
    const cache = createPromptCache({ provider, wire }, turn.conversationId);
    const outcome = yield* runRounds(provider, toolset, { callModel, signal, record: keep });
    return { ...outcome, ...(settings.warnings.length > 0 && { warnings: settings.warnings }) };

    async function* callModel(soFar: readonly MessagePart[]): AsyncGenerator<EngineEvent, Answer, void> {
      for (let attempt = 1; ; attempt += 1) {
        signal.throwIfAborted();
        const instructions = settings.toInstructions(turn.instructions);
        const prompt = cache.mark(toPrompt({ ...sent, instructions }, soFar));
        const guard = createCallGuard({
          ...deadlines,
          leftMs: endsAtMs - performance.now(),
          signal,
          receivedBytesMax: Math.max(RECEIVED_BYTES_MAX, answerBytesMax * 2),
          toTimeout: (waitedMs) => toTimeout(provider, waitedMs),
          toTooLarge: () => toTooLarge(provider, answerBytesMax),
        });
        const progress = { started: false };
        let failure: Failure;
        let whole = false;
        try {
          const loading = models.get(provider, modelId, turn.credential).catch(maskAsInternal);
          const model = await Promise.race([loading, guard.aborted]);
          const byWire = callOptions({ provider, wire }, { ...turn, cacheKey: cache.key });
          const request = { ...byWire, ...tools, ...settings.toOptions(), prompt, abortSignal: guard.signal };
          const { stream, request: made } = await Promise.race([model.doStream(request), guard.aborted]);
          const answer = yield* readAnswer(stream, { provider, modelId, guard, size, progress });
          whole = true;
          settings.warn(answer.warnings, made?.body);
          return answer;
        } catch (thrown) {
          signal.throwIfAborted();
          const reason = guard.signal.aborted ? guard.signal.reason : thrown;
          const secrets = secretsOf(provider);
          const failedCall = { attempt, now: clock.now(), credential: turn.credential, secrets };
          failure = toFailure(provider, modelId, reason, failedCall);
        } finally {
          guard.close(whole);
        }
        const { error: thrown } = failure;
        const error = thrown instanceof ContextOverflow && progress.started ? thrown.inAnswer() : thrown;
        if (error instanceof ContextOverflow) {
          const trimmed = trimTurn(sent, error.limitTokens, ++overflows >= TRIMS_MAX);
          if (trimmed === undefined) throw error;
          sent = trimmed.turn;
          yield toEvent(trimmed);
          attempt -= 1;
          continue;
        }
        if (
          !progress.started &&
          (models.leaveOut(provider, error) || settings.leaveOut(error) || cache.leaveOut(error))
        ) {
          attempt -= 1;
          continue;
        }
        const backoffMs = (options.retryMs ?? 500) * 2 ** (attempt - 1);
        const waitMs = (failure.retryAfterMs ?? 0) + random() * backoffMs;
        const patience = Math.min(Math.min(RETRY_AFTER_MAX_MS, waitLeftMs) + backoffMs, endsAtMs - performance.now());
        if (progress.started || !failure.retry || attempt === CALLS_MAX || waitMs > patience) {
          throw withRetryAfter(error, failure.retryAfterMs ?? (failure.retry ? backoffMs * 2 : undefined));
        }
        if (failure.retryAfterMs !== undefined) {
          waitLeftMs -= failure.retryAfterMs;
          yield { StreamError: { message: error.message, attempt, retry_in_ms: Math.round(waitMs) } };
        }
        await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      }
    }
  }

  return { run, warm: (provider) => void models.get(provider, 'warm').catch(() => undefined) };
}

/** A provider whose module cannot be loaded is a fault of the deployment, not of the provider. */
function maskAsInternal(cause: unknown): never {
  throw new RpcError('internal', { cause });
}

function split(model: string, modelProviders: Config['modelProviders'] | undefined) {
  const slash = model.indexOf('/');
  const provider = model.slice(0, slash);
  const wire = slash > 0 ? wireOf(provider, modelProviders) : undefined;
  if (wire !== undefined) return { provider, modelId: model.slice(slash + 1), wire };
  throw new RpcError('invalid_params', { data: { issues: [{ path: 'model', message: 'unknown provider' }] } });
}
