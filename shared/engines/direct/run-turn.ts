// One turn of the direct engine: calls the model for each round of tools, and repeats a failed call if no part of its
// answer has been sent.
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
import { createSentTurn } from '../sent-turn.ts';
import { NO_TOOLS } from '../tools/earlier-tools.ts';
import { type Answer, readAnswer } from './answer-stream.ts';
import { type CallGuard, createCallGuard, type Deadlines } from './providers/call-guard.ts';
import type { Models } from './providers/providers.ts';
import { callOptions } from './request/call-options.ts';
import { createSettings } from './request/call-settings.ts';
import { createCallTools } from './request/call-tools.ts';
import { toPrompt } from './request/prompt.ts';
import { createPromptCache } from './request/prompt-cache.ts';
import { createRetryWaits } from './retry-waits.ts';
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

export async function* runTurn(
  engine: EngineParts,
  turn: TurnInput,
  { signal, record }: RunOptions,
): AsyncGenerator<EngineEvent, Outcome, void> {
  const { models, deadlines, answerBytesMax } = engine;
  const { provider, modelId, wire } = engine.split(turn.model);
  const sent = createSentTurn(turn);
  const endsAtMs = performance.now() + deadlines.totalMs;
  const requestedMsMax = turn.retryWaitMsMax ?? Number.POSITIVE_INFINITY;
  const waits = createRetryWaits({ ...engine, requestedMsMax, endsAtMs, signal });
  const size = { bytes: 0, bytesMax: answerBytesMax };
  const tools = createCallTools(turn);
  const toolset = turn.tools ?? (tools.current.tools === undefined ? undefined : NO_TOOLS);
  // A provider refuses signatures that it has made for another account.
  const keep = turn.credential === undefined ? record : (part: MessagePart) => record?.(withoutMetadata(part));
  const settings = createSettings(turn, labelOf(provider));
  const leftOut = new Set<string>();
  const cache = createPromptCache({ provider, wire }, turn.conversationId);
  /** Of all calls that the provider has counted, failed ones included. */
  let usage = NO_USAGE;
  const count = (more: Usage): EngineEvent => {
    usage = addUsage(usage, more);
    return { TokenCount: usage };
  };
  const outcome = yield* runRounds(provider, toolset, { callModel, signal, record: keep });
  const warnings = [...settings.toWarnings(), ...tools.warnings];
  return { ...outcome, usage, ...(warnings.length > 0 && { warnings }) };

  async function* callModel(soFar: readonly MessagePart[]): AsyncGenerator<EngineEvent, Answer, void> {
    for (let attempt = 1; ; ) {
      signal.throwIfAborted();
      const instructions = settings.toInstructions(turn.instructions);
      const prompt = cache.mark(toPrompt({ ...sent.current, instructions }, soFar));
      const guard = openGuard();
      const progress = { started: false };
      let failure: Failure;
      let whole = false;
      try {
        const { stream, request } = await openStream(prompt, guard);
        const answer = yield* readAnswer(stream, { provider, modelId, guard, size, progress, count });
        whole = true;
        settings.warn(answer.warnings, request?.body);
        return answer;
      } catch (thrown) {
        signal.throwIfAborted();
        failure = toCallFailure(guard.signal.aborted ? guard.signal.reason : thrown, attempt, progress.started);
      } finally {
        guard.close(whole);
      }
      const { error } = failure;
      if (error instanceof ContextOverflow) yield sent.trim(error);
      else if (progress.started || !leaveOut(error)) {
        yield* waits.before({ attempt, hasStarted: progress.started, failure });
        attempt++;
      }
    }
  }

  function openGuard(): CallGuard {
    return createCallGuard({
      ...deadlines,
      leftMs: endsAtMs - performance.now(),
      signal,
      receivedBytesMax: Math.max(RECEIVED_BYTES_MAX, answerBytesMax * 2),
      toTimeout: (waitedMs) => toTimeout(provider, waitedMs),
      toTooLarge: () => toTooLarge(provider, answerBytesMax),
    });
  }

  async function openStream(prompt: LanguageModelV4Prompt, guard: CallGuard) {
    const loading = models.get(provider, modelId, turn.credential).catch(maskAsInternal);
    const model = await Promise.race([loading, guard.aborted]);
    const byWire = callOptions({ provider, wire }, { ...turn, settings: settings.current, cacheKey: cache.key });
    const request = { ...byWire, ...tools.current, ...settings.toOptions(), prompt, abortSignal: guard.signal };
    return await Promise.race([model.doStream(request), guard.aborted]);
  }

  function toCallFailure(thrown: unknown, attempt: number, hasStarted: boolean): Failure {
    const { credential } = turn;
    const call = { attempt, now: engine.clock.now(), credential, secrets: engine.secrets };
    const failure = toFailure(provider, modelId, thrown, call);
    const { error } = failure;
    return error instanceof ContextOverflow && hasStarted ? { ...failure, error: error.inAnswer() } : failure;
  }

  /** Leaves out a part of the request that the provider refuses with this error; false if it refuses something else. */
  function leaveOut(error: RpcError): boolean {
    return (
      models.leaveOut(provider, error, leftOut) ||
      tools.leaveOut(error) ||
      settings.leaveOut(error) ||
      cache.leaveOut(error)
    );
  }
}

/** A provider whose module cannot be loaded is a fault of the deployment, not of the provider. */
function maskAsInternal(cause: unknown): never {
  throw new RpcError('internal', { cause });
}
