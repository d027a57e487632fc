// One turn of the direct engine: calls the model for each round of tools, and repeats a failed call if no part of its
// answer has been sent. No generator function is made for a turn: at its first call, V8 makes a hidden class for it,
// which keeps the objects of the turn in memory until the next full garbage collection.
import type { LanguageModelV4Prompt } from '@ai-sdk/provider';
import type { Clock } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import { type MessagePart, withoutMetadata } from '../../messages/message-parts.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../usage.ts';
import type { Outcome, RunOptions, TurnInput } from '../engine.ts';
import { ContextOverflow } from '../failures/context-overflow.ts';
import { type Failure, toFailure, toTimeout, toTooLarge } from '../failures/failures.ts';
import { labelOf, type Wire } from '../provider-names.ts';
import { createSentTurn, type SentTurn } from '../sent-turn.ts';
import { NO_TOOLS } from '../tools/earlier-tools.ts';
import { type Answer, readAnswer } from './answer-stream.ts';
import { type CallGuard, createCallGuard, type Deadlines } from './providers/call-guard.ts';
import type { Models } from './providers/providers.ts';
import { callOptions } from './request/call-options.ts';
import { createSettings, type Settings } from './request/call-settings.ts';
import { type CallTools, createCallTools } from './request/call-tools.ts';
import { toPrompt } from './request/prompt.ts';
import { createPromptCache, type PromptCache } from './request/prompt-cache.ts';
import { createRetryWaits, type RetryWaits } from './retry-waits.ts';
import { runRounds } from './tool-rounds.ts';

/** What the turns of an engine share. */
export interface EngineParts {
  readonly models: Models;
  /** Throws RpcError `invalid_params` for a model of an unknown provider. */
  split(model: string): { readonly provider: string; readonly modelId: string; readonly wire: Wire };
  /** The credentials of the deployment, which are removed from messages. */
  readonly secrets: readonly string[];
  readonly deadlines: Deadlines;
  readonly answerBytesMax: number;
  readonly backoffMs: number;
  readonly clock: Clock;
  readonly random: () => number;
}

/**
 * Most received bytes of an answer. Each delta has about 300 bytes of JSON around it, so a response is much larger than
 * its text.
 */
const RECEIVED_BYTES_MAX = 64 << 20;

/** What the calls of one turn share. */
interface Turn {
  readonly engine: EngineParts;
  readonly input: TurnInput;
  readonly signal: AbortSignal;
  readonly provider: string;
  readonly modelId: string;
  readonly wire: Wire;
  /** By `performance.now()`. */
  readonly endsAtMs: number;
  readonly sent: SentTurn;
  readonly waits: RetryWaits;
  readonly tools: CallTools;
  readonly settings: Settings;
  readonly cache: PromptCache;
  /** Parts of the request that the provider has refused. */
  readonly leftOut: Set<string>;
  /** The bytes of all answers. */
  readonly size: { bytes: number; readonly bytesMax: number };
  /** Of all calls that the provider has counted, failed ones included. */
  usage: Usage;
}

export async function* runTurn(
  engine: EngineParts,
  input: TurnInput,
  { signal, record }: RunOptions,
): AsyncGenerator<EngineEvent, Outcome, void> {
  const turn = openTurn(engine, input, signal);
  const { provider, settings, tools } = turn;
  const toolset = input.tools ?? (tools.current.tools === undefined ? undefined : NO_TOOLS);
  // A provider refuses signatures that it has made for another account.
  const keep = input.credential === undefined ? record : (part: MessagePart) => record?.(withoutMetadata(part));
  const call = (soFar: readonly MessagePart[]) => callModel(turn, soFar);
  const outcome = yield* runRounds(provider, toolset, { callModel: call, signal, record: keep });
  const warnings = [...settings.toWarnings(), ...tools.warnings];
  return { ...outcome, usage: turn.usage, ...(warnings.length > 0 && { warnings }) };
}

function openTurn(engine: EngineParts, input: TurnInput, signal: AbortSignal): Turn {
  const { provider, modelId, wire } = engine.split(input.model);
  const endsAtMs = performance.now() + engine.deadlines.totalMs;
  const requestedMsMax = input.retryWaitMsMax ?? Number.POSITIVE_INFINITY;
  return {
    ...{ engine, input, signal, provider, modelId, wire, endsAtMs },
    sent: createSentTurn(input),
    waits: createRetryWaits({ ...engine, requestedMsMax, endsAtMs, signal }),
    tools: createCallTools(input),
    settings: createSettings(input, labelOf(provider)),
    cache: createPromptCache({ provider, wire }, input.conversationId),
    leftOut: new Set(),
    size: { bytes: 0, bytesMax: engine.answerBytesMax },
    usage: NO_USAGE,
  };
}

async function* callModel(turn: Turn, soFar: readonly MessagePart[]): AsyncGenerator<EngineEvent, Answer, void> {
  const { provider, modelId, input, signal, sent, settings, size } = turn;
  const count = (more: Usage): EngineEvent => {
    turn.usage = addUsage(turn.usage, more);
    return { TokenCount: turn.usage };
  };
  for (let attempt = 1; ; ) {
    signal.throwIfAborted();
    const instructions = settings.toInstructions(input.instructions);
    const prompt = turn.cache.mark(toPrompt({ ...sent.current, instructions }, soFar));
    const guard = openGuard(turn);
    const progress = { started: false };
    let failure: Failure;
    let whole = false;
    try {
      const { stream, request } = await openStream(turn, prompt, guard);
      const answer = yield* readAnswer(stream, { provider, modelId, guard, size, progress, count });
      whole = true;
      settings.warn(answer.warnings, request?.body);
      return answer;
    } catch (thrown) {
      signal.throwIfAborted();
      const reason: unknown = guard.signal.aborted ? guard.signal.reason : thrown;
      failure = toCallFailure(turn, reason, { attempt, hasStarted: progress.started });
    } finally {
      guard.close(whole);
    }
    const { error } = failure;
    if (error instanceof ContextOverflow) yield sent.trim(error);
    else if (progress.started || !leaveOut(turn, error)) {
      yield* turn.waits.before({ attempt, hasStarted: progress.started, failure });
      attempt++;
    }
  }
}

function openGuard({ engine: { deadlines, answerBytesMax }, provider, endsAtMs, signal }: Turn): CallGuard {
  return createCallGuard({
    ...deadlines,
    leftMs: endsAtMs - performance.now(),
    signal,
    receivedBytesMax: Math.max(RECEIVED_BYTES_MAX, answerBytesMax * 2),
    toTimeout: (waitedMs) => toTimeout(provider, waitedMs),
    toTooLarge: () => toTooLarge(provider, answerBytesMax),
  });
}

async function openStream(turn: Turn, prompt: LanguageModelV4Prompt, guard: CallGuard) {
  const { engine, input, provider, modelId, wire, tools, settings, cache } = turn;
  const loading = engine.models.get(provider, modelId, input.credential).catch(maskAsInternal);
  const model = await Promise.race([loading, guard.aborted]);
  const byWire = callOptions({ provider, wire }, { ...input, settings: settings.current, cacheKey: cache.key });
  const request = { ...byWire, ...tools.current, ...settings.toOptions(), prompt, abortSignal: guard.signal };
  return await Promise.race([model.doStream(request), guard.aborted]);
}

function toCallFailure(
  { engine, input: { credential }, provider, modelId }: Turn,
  thrown: unknown,
  { attempt, hasStarted }: { readonly attempt: number; readonly hasStarted: boolean },
): Failure {
  const call = { attempt, now: engine.clock.now(), credential, secrets: engine.secrets };
  const failure = toFailure(provider, modelId, thrown, call);
  const { error } = failure;
  return error instanceof ContextOverflow && hasStarted ? { ...failure, error: error.inAnswer() } : failure;
}

/** Leaves out a part of the request that the provider refuses with this error; false if it refuses something else. */
function leaveOut({ engine, provider, leftOut, tools, settings, cache }: Turn, error: RpcError): boolean {
  return (
    engine.models.leaveOut(provider, error, leftOut) ||
    tools.leaveOut(error) ||
    settings.leaveOut(error) ||
    cache.leaveOut(error)
  );
}

/** A provider whose module cannot be loaded is a fault of the deployment, not of the provider. */
function maskAsInternal(cause: unknown): never {
  throw new RpcError('internal', { cause });
}
