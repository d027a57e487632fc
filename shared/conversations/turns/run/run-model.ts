// Runs the engine of one model for a turn: its events go to the turn, its answer into the progress.
import { providerOf } from '../../../config/values/model-id.ts';
import type { Outcome } from '../../../engines/engine.ts';
import { hasImages, withoutImages } from '../../../engines/images.ts';
import { RpcError, toRpcError } from '../../../errors.ts';
import { checkOutput as issuesOf } from '../../../json/output-checker.ts';
import { isWrapped } from '../../../json/schema-plain.ts';
import type { MessagePart } from '../../../messages/message-parts.ts';
import type { Span } from '../../../telemetry/timings.ts';
import type { EngineEvent, FailedModel, TurnEvent, Usage } from '../../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../../usage.ts';
import type { TurnDeps } from '../../deps.ts';
import type { ContextBudget } from '../../records/documents.ts';
import type { Context } from '../../records/messages/context.ts';
import type { AdmittedTurn } from '../turn.ts';
import { timed } from './timed.ts';
import { splitEvent, toTaskStarted, toTurnInput } from './turn-input.ts';
import { traceTurn } from './turn-spans.ts';
import { createUnwrapper } from './unwrap-answer.ts';

/** The events and the answer that the engine has yielded so far. */
export interface Progress {
  /** The model that runs or has answered. */
  model: string;
  text: string;
  readonly parts: MessagePart[];
  /** What providers have counted, for models that failed as well. */
  usage: Usage;
  /** The budget for the model, if the provider has refused the conversation as too long. */
  budget: ContextBudget | undefined;
}

export function createProgress({ lease }: AdmittedTurn): Progress {
  return { model: lease.model, text: '', parts: [], usage: NO_USAGE, budget: undefined };
}

export interface ModelRun {
  readonly progress: Progress;
  readonly append: (event: TurnEvent) => void;
  readonly signal: AbortSignal;
  readonly spans: Span[];
  readonly context: Context;
  /** The models before this one that failed. */
  readonly failed: readonly FailedModel[];
  /** Called at the first event of the answer, before it is appended. */
  readonly onBegun: () => void;
}

export async function runModel(
  { clock, tracer }: TurnDeps,
  admitted: AdmittedTurn,
  { progress, append, signal, spans, context, failed, onBegun }: ModelRun,
): Promise<Outcome> {
  const { conversation, lease, engine } = admitted;
  Object.assign(progress, { model: lease.model, text: '' });
  progress.parts.length = 0;
  append(toTaskStarted(admitted, context, failed));
  // The events of a failed model are dropped. Its tokens are in those of the next one, for an instance that ends the
  // turn later.
  const before = progress.usage;
  if (before.total_tokens > 0) append({ TokenCount: before });
  const isReadable = !context.messages.some(hasImages) || (await admitted.takesImages());
  const messages = isReadable ? context.messages : withoutImages(context.messages);
  signal.throwIfAborted();
  const traced =
    tracer &&
    traceTurn(tracer, { model: lease.model, conversationId: conversation.conversation_id }, () => clock.now());
  return timed(spans, 'model', async () => {
    const record = (part: MessagePart): void => void progress.parts.push(part);
    let isBegun = false;
    const generator = engine.run(toTurnInput(admitted, { ...context, messages }), { signal, record });
    const unwrapper = admitted.outputSchema && isWrapped(admitted.outputSchema) ? createUnwrapper() : undefined;
    const pass = (event: EngineEvent): void => {
      for (const part of splitEvent(event)) append(part);
      if ('AgentMessageDelta' in event) progress.text += event.AgentMessageDelta.delta;
    };
    const passText = (delta = ''): void => {
      if (delta !== '') pass({ AgentMessageDelta: { delta } });
    };
    for (;;) {
      const step = await generator.next().catch((error: unknown) => {
        traced?.failed(toRpcError(signal.aborted ? signal.reason : error).reason);
        throw error;
      });
      if (step.done) {
        traced?.completed(step.value);
        progress.usage = addUsage(before, step.value.usage);
        const outcome = { ...step.value, usage: progress.usage };
        if (unwrapper === undefined) return outcome;
        passText(unwrapper.end());
        // After all text that is counted.
        pass({ TokenCount: progress.usage });
        return { ...outcome, content: progress.text };
      }
      traced?.event(step.value);
      if (!isBegun && isOfAnswer(step.value)) {
        isBegun = true;
        onBegun();
      }
      if ('TokenCount' in step.value) {
        progress.usage = addUsage(before, step.value.TokenCount);
        pass({ TokenCount: progress.usage });
      } else if (unwrapper !== undefined && 'AgentMessageDelta' in step.value)
        passText(unwrapper.add(step.value.AgentMessageDelta.delta));
      else pass(step.value);
      if ('ContextTrimmed' in step.value) {
        progress.budget = { model: lease.model, tokens: step.value.ContextTrimmed.budget_tokens };
      }
    }
  });
}

/** Whether an event shows that the model has begun its answer. */
function isOfAnswer(event: EngineEvent): boolean {
  return !('StreamError' in event || 'ContextTrimmed' in event || 'TokenCount' in event);
}

/** Throws `upstream_error` with the issues if the answer is not JSON of the caller's schema. */
export async function checkOutput(
  { outputSchema, lease, conversation }: AdmittedTurn,
  { content, finishReason }: Outcome,
  signal: AbortSignal,
): Promise<void> {
  if (outputSchema === undefined) return;
  const issues = await issuesOf(outputSchema, content, { owner: conversation.owner, signal });
  if (issues.length === 0) return;
  const cut = finishReason === undefined || finishReason === 'stop' ? '' : `, which was cut (${finishReason}),`;
  throw new RpcError('upstream_error', {
    message: `The answer${cut} does not match output_schema`,
    data: { provider: providerOf(lease.model), model: lease.model, detail: 'output_schema', issues },
    retryable: true,
  });
}
