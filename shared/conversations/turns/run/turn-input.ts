// Builds the input of an engine for an admitted turn, and the first event of the turn, which describes it.
import type { TurnInput } from '../../../engines/engine.ts';
import { toSentSchema } from '../../../json/output-schema.ts';
import { splitText } from '../../../messages/text.ts';
import type { FailedModel, OmittedTool, TurnEvent } from '../../../turn-events.ts';
import type { Context } from '../../records/messages/context.ts';
import type { AdmittedTurn } from '../turn.ts';

/** Longer texts in events are split, so that each event fits into a chunk document. */
const EVENT_CHARS_MAX = 16 << 10;
/** Most omitted tools in the first event of a turn. */
const OMITTED_TOOLS_MAX = 64;

/** `failed`: the models before this one. */
export function toTaskStarted(
  { lease, mcpLost, tools }: AdmittedTurn,
  context: Context,
  failed: readonly FailedModel[],
): TurnEvent {
  const { messages, tokens, trimmed } = context;
  return {
    TaskStarted: {
      turn_id: lease.turn_id,
      model: lease.model,
      started_at: lease.started_at,
      context: { tokens, trimmed, messages: messages.length },
      ...(failed.length > 0 && { fallback_from: [...failed] }),
      ...(mcpLost && { mcp_lost: true as const }),
      ...(tools?.restarted?.length && { restarted_servers: tools.restarted }),
      ...toOmitted(tools?.omitted),
    },
  };
}

export function toTurnInput(admitted: AdmittedTurn, { messages, trimmed }: Context): TurnInput {
  const { lease, conversation, instructions, settings, outputSchema, credential, tools, retryWaitMsMax } = admitted;
  return {
    turnId: lease.turn_id,
    conversationId: conversation.conversation_id,
    model: lease.model,
    messages,
    trimmed,
    keyId: conversation.owner,
    ...(instructions === undefined ? {} : { instructions }),
    ...(settings === undefined ? {} : { settings }),
    ...(conversation.branch === undefined ? {} : { branch: conversation.branch }),
    ...(outputSchema === undefined ? {} : { outputSchema: toSentSchema(outputSchema) }),
    ...(credential === undefined ? {} : { credential }),
    ...(tools === undefined ? {} : { tools }),
    ...(retryWaitMsMax === undefined ? {} : { retryWaitMsMax }),
  };
}

/** Yields the event, or several events with one part each of its long text. */
export function* splitEvent(event: TurnEvent): Generator<TurnEvent> {
  if ('AgentMessageDelta' in event) {
    for (const delta of splitText(event.AgentMessageDelta.delta, EVENT_CHARS_MAX))
      yield { AgentMessageDelta: { delta } };
  } else if ('AgentReasoningDelta' in event) {
    for (const delta of splitText(event.AgentReasoningDelta.delta, EVENT_CHARS_MAX))
      yield { AgentReasoningDelta: { delta } };
  } else yield event;
}

function toOmitted(omitted: readonly OmittedTool[] = []) {
  if (omitted.length === 0) return {};
  return {
    omitted_tools: omitted.slice(0, OMITTED_TOOLS_MAX),
    ...(omitted.length > OMITTED_TOOLS_MAX && { omitted_tools_count: omitted.length }),
  };
}
