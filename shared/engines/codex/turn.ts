// One turn of Codex in an open thread: starts it, translates its notifications, interrupts it when the reader stops,
// and saves the thread.
import { deadline } from '../../async.ts';
import { ignoredSettings, type SettingWarning, type TurnSettings } from '../../messages/turn-settings.ts';
import type { EngineEvent, Usage } from '../../turn-events.ts';
import { isStrict, toSchemaInstruction } from '../answer-schema.ts';
import type { Message, Outcome, RunOptions, TurnInput } from '../engine.ts';
import { createTranslation, type TurnTranslation } from './events/translate.ts';
import { toError } from './failures.ts';
import { createInbox } from './inbox.ts';
import { interrupt } from './interrupt.ts';
import { createPartRecorder } from './parts.ts';
import type { ClosedCodex } from './protocol/client.ts';
import { JsonObject, type Notification, type ToolAnswer, type ToolCall } from './protocol/protocol.ts';
import { toAccount } from './relay/account.ts';
import type { AppServer } from './threads/app-servers.ts';
import { toTextPart, toTurnInputParts } from './threads/history-items.ts';
import { addModel, type KnownThread, type LoadedThread, toModelId } from './threads/known-thread.ts';
import { hashMessage } from './threads/rollout.ts';
import { saveThread, type ThreadDeps } from './threads/threads.ts';
import { createToolRunner } from './threads/tools.ts';
import { answerTooLong, appServerEnded, emptyAnswer, turnInterrupted } from './turn-errors.ts';

/** For the list of models. */
const MODELS_MS = 3_000;
const ANSWER_CHARS_MAX = 4 << 20;
const NO_PROMPT: Message = { role: 'user', content: '' };
/** For a model that is not in Codex's list. */
const USUAL_EFFORT = 'medium';

export async function* runTurn(
  deps: ThreadDeps,
  appServer: AppServer,
  given: LoadedThread,
  turn: TurnInput,
  { signal, record }: RunOptions,
): AsyncGenerator<EngineEvent, Outcome, void> {
  const { client } = appServer;
  const { threadId } = given.known;
  const inbox = createInbox(answerTooLong);
  const over = new AbortController();
  const started = Promise.withResolvers<string>();
  const run = createToolRunner(turn.tools, inbox.push, AbortSignal.any([signal, over.signal]));
  const called = async (call: ToolCall): Promise<ToolAnswer | undefined> => {
    if ((await started.promise) === call.turnId && !over.signal.aborted) return run?.(call);
  };
  const account = toAccount(turn, deps.apiKey);
  const secrets = [turn.credential?.token(), deps.apiKey].filter((secret) => secret !== undefined);
  const models = addModel(given.known.models, toModelId(turn.model));
  const hasEffort = given.known.hasEffort === true || turn.settings?.reasoning !== undefined;
  const thread = { ...given, known: { ...given.known, models, ...(hasEffort && { hasEffort }) } };
  const running = appServer.running.begin(thread.token, { account, modelIds: models });
  const { commands } = running;
  const notified = (notification: Notification, chars: number): void => {
    commands.notified(notification);
    inbox.push(notification, chars);
  };
  const closed = (how: ClosedCodex): void => {
    commands.allReturned();
    inbox.fail(appServerEnded(how));
  };
  const unlisten = client.listen(threadId, { notified, called, closed });
  const recordPart = createPartRecorder(record);
  let translation: TurnTranslation | undefined;
  /** What Codex reports cannot be relied upon: the greater usage counts, however the turn ends. */
  const missing = (): EngineEvent[] => {
    const { usage } = running;
    return usage.total_tokens > (translation?.usage.total_tokens ?? 0) ? [{ TokenCount: usage }] : [];
  };
  try {
    const { turnId, warnings } = await start(appServer, thread, turn);
    translation = createTranslation(turnId, secrets);
    started.resolve(translation.turnId);
    while (translation.ended === undefined) {
      const item = await inbox.next(signal);
      for (const event of 'event' in item ? [item.event] : translation.toEvents(item)) {
        yield event;
        recordPart(translation.content, event, 'event' in item ? item.part : undefined);
      }
      if (translation.chars > ANSWER_CHARS_MAX) throw answerTooLong();
    }
    if (translation.ended.status === 'failed') throw toError(translation.ended.failure, toModelId(turn.model), secrets);
    const outcome = toOutcome(translation, turn, running.usage, warnings);
    yield* missing();
    return outcome;
  } catch (error) {
    yield* missing();
    throw error;
  } finally {
    over.abort();
    started.resolve('');
    if (translation !== undefined && translation.ended === undefined)
      await interrupt(appServer, { threadId, translation, inbox, commands });
    running.end();
    if (translation?.ended !== undefined) await save(deps, appServer, thread, turn, translation);
    unlisten();
  }
}

interface StartedTurn {
  readonly turnId: string;
  readonly warnings: readonly SettingWarning[];
}

/** Not bound to the signal: a turn whose id is not known could not be interrupted. */
async function start(
  appServer: AppServer,
  { known, modelId: threadModelId }: LoadedThread,
  { messages, model, conversationId, settings, outputSchema }: TurnInput,
): Promise<StartedTurn> {
  const { client, threads } = appServer;
  const { threadId, models } = known;
  const modelId = toModelId(model);
  // Codex builds its settings anew whenever a turn names the model.
  const isSwitched = modelId !== threadModelId;
  const loaded = threads.get(conversationId);
  if (isSwitched && loaded !== undefined) {
    threads.set(conversationId, { ...loaded, known: { ...loaded.known, models }, modelId: undefined });
  }
  const { effort, warnings = [] } = await toEffort(appServer, modelId, settings, known);
  const isSent = outputSchema === undefined || isStrict(outputSchema);
  const instruction = isSent ? [] : [toTextPart(toSchemaInstruction(outputSchema))];
  const { turn } = await client.request('turn/start', {
    threadId,
    input: [...toTurnInputParts(messages.at(-1) ?? NO_PROMPT), ...instruction],
    ...(isSwitched && { model: modelId }),
    ...(effort !== undefined && { effort }),
    ...(isSent && outputSchema !== undefined && { outputSchema: JsonObject.parse(outputSchema) }),
  });
  return { turnId: turn.id, warnings: [...warnings, ...(isSent ? [] : [SCHEMA_WARNING])] };
}

/** Codex requests strict schemas only. */
const SCHEMA_WARNING: SettingWarning = {
  setting: 'output_schema',
  message: 'Codex supports only the strict schemas of OpenAI. It is sent as an instruction instead',
};

/** The effort stays with the thread: a turn without one sets the default of the model again. */
async function toEffort(
  { client }: AppServer,
  modelId: string,
  { reasoning }: TurnSettings = {},
  { hasEffort }: KnownThread,
): Promise<{ readonly effort?: string; readonly warnings?: readonly SettingWarning[] }> {
  if (reasoning === undefined && hasEffort !== true) return {};
  const model = await client.request('model/list', { includeHidden: true }, deadline(MODELS_MS)).then(
    ({ data }) => data.find((each) => each.model === modelId),
    () => undefined,
  );
  if (reasoning === undefined) return { effort: model?.defaultReasoningEffort ?? USUAL_EFFORT };
  const effort = reasoning === 'off' ? 'none' : reasoning;
  const [lowest, ...others] = (model?.supportedReasoningEfforts ?? []).map(({ reasoningEffort }) => reasoningEffort);
  if (lowest === undefined || [lowest, ...others].includes(effort)) return { effort };
  // The provider refuses an effort that the model does not have.
  const message = `Codex does not support ${reasoning} for ${modelId}: the effort is ${lowest}`;
  return { effort: lowest, warnings: [{ setting: 'reasoning', message }] };
}

/** `counted`: by the provider. */
function toOutcome(
  { ended, content, usage }: TurnTranslation,
  { model, settings }: TurnInput,
  counted: Usage,
  changed: readonly SettingWarning[],
): Outcome {
  if (ended?.status !== 'completed') throw turnInterrupted();
  if (content === '') throw emptyAnswer();
  const greater = counted.total_tokens > usage.total_tokens ? counted : usage;
  const warnings = [...changed, ...ignoredSettings(settings, 'Codex', ['reasoning'])];
  return { content, usage: greater, model, finishReason: 'stop', ...(warnings.length > 0 && { warnings }) };
}

/** Saves the thread with the last message that it holds: the answer, or the prompt of a turn without one. */
async function save(
  deps: ThreadDeps,
  appServer: AppServer,
  thread: LoadedThread,
  { messages, trimmed = 0, model, conversationId }: TurnInput,
  { ended, content }: TurnTranslation,
): Promise<void> {
  const isAnswered = ended?.status === 'completed' && content !== '';
  const last = isAnswered
    ? ({ role: 'assistant', content } as const)
    : ({ role: 'user', content: messages.at(-1)?.content ?? '' } as const);
  const seq = trimmed + messages.length + (isAnswered ? 1 : 0);
  await saveThread(deps, appServer, conversationId, {
    ...thread,
    modelId: toModelId(model),
    known: { ...thread.known, seq, hash: hashMessage(last) },
  });
}
