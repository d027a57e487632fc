// Converts the messages of a turn to the prompt of the AI SDK. What the model wrote earlier is converted in the same
// way whether it was in an earlier turn or in an earlier call of this one, so that each request begins with the request
// before it: the providers' prompt caches need this.
import type { LanguageModelV4Message, LanguageModelV4Prompt, LanguageModelV4ToolResultPart } from '@ai-sdk/provider';
import { type MessagePart, type Round, toRounds, withoutMetadata } from '../../../messages/message-parts.ts';
import { isBlank } from '../../../messages/text.ts';
import type { Message, TurnInput } from '../../engine.ts';
import { createCallIds, type ToCallId } from '../../tools/call-ids.ts';
import { EMPTY_RESULT } from '../../tools/empty-result.ts';
import { toRepeatable } from '../../tools/tool-arguments.ts';

type AssistantPart = Extract<LanguageModelV4Message, { readonly role: 'assistant' }>['content'][number];

type PromptOf = Pick<TurnInput, 'messages' | 'model' | 'credential'> & { readonly instructions: string | undefined };

/** `soFar`: what the model has answered in this turn, with the results of its tool calls. */
export function toPrompt(turn: PromptOf, soFar: readonly MessagePart[]): LanguageModelV4Prompt {
  const prompt: LanguageModelV4Prompt = [];
  const toCallId = createCallIds();
  if (turn.instructions !== undefined && !isBlank(turn.instructions))
    prompt.push({ role: 'system', content: turn.instructions });
  const messages = turn.messages.filter(({ content, parts }) => parts !== undefined || !isBlank(content));
  // Providers require that the first message is a user's; the one before it was removed because it was blank.
  const first = messages.findIndex(({ role }) => role === 'user');
  for (const message of messages.slice(Math.max(0, first))) prompt.push(...toMessages(turn, message, toCallId));
  for (const round of toRounds(soFar)) prompt.push(...toRoundMessages(round, toCallId));
  return prompt;
}

function toMessages(turn: PromptOf, message: Message, toCallId: ToCallId): LanguageModelV4Prompt {
  const { role, content, parts, model } = message;
  if (role === 'user' && parts !== undefined) return [{ role, content: parts.flatMap(toUserPart) }];
  if (role === 'user' || parts === undefined)
    return [{ role, content: [{ type: 'text', text: content.toWellFormed() }] }];
  // Signatures are of one model and account. Others refuse them, or reasoning without them.
  const isOwn = model === turn.model && turn.credential === undefined;
  const readable = isOwn ? parts : parts.filter(({ type }) => type !== 'reasoning').map(withoutMetadata);
  return toRounds(readable).flatMap((round) => toRoundMessages(round, toCallId));
}

type UserPart = Extract<LanguageModelV4Message, { readonly role: 'user' }>['content'][number];

function toUserPart(part: MessagePart): UserPart[] {
  if (part.type === 'image')
    return [{ type: 'file', mediaType: part.media_type, data: { type: 'data', data: part.data } }];
  return part.type === 'text' && !isBlank(part.text) ? [{ type: 'text', text: part.text.toWellFormed() }] : [];
}

/** The answer of one call of the model, and the results of its tool calls. */
function toRoundMessages({ output, results }: Round, toCallId: ToCallId): LanguageModelV4Prompt {
  const content: AssistantPart[] = [];
  const answers: LanguageModelV4ToolResultPart[] = [];
  let calls = 0;
  for (const part of output) {
    const providerOptions = part.metadata === undefined ? {} : { providerOptions: { ...part.metadata } };
    if (part.type === 'tool_call') {
      const { call_id, name: toolName, arguments: input } = part;
      const toolCallId = toCallId(call_id);
      content.push({ type: 'tool-call', toolCallId, toolName, input: toRepeatable(input), ...providerOptions });
      const result = results[calls++];
      if (result !== undefined) answers.push(toResult(toolCallId, toolName, result));
    } else if (!isBlank(part.text) || (part.type === 'reasoning' && part.metadata !== undefined)) {
      // Reasoning without text may carry a signature that the provider requires.
      content.push({ type: part.type, text: part.text.toWellFormed(), ...providerOptions });
    }
  }
  // Providers refuse reasoning that nothing follows, as that of an answer that was cut.
  while (content.at(-1)?.type === 'reasoning') content.pop();
  const assistant: LanguageModelV4Prompt = content.length === 0 ? [] : [{ role: 'assistant', content }];
  return answers.length === 0 ? assistant : [...assistant, { role: 'tool', content: answers }];
}

function toResult(
  toolCallId: string,
  toolName: string,
  { content, is_error }: Round['results'][number],
): LanguageModelV4ToolResultPart {
  const value = isBlank(content) ? EMPTY_RESULT : content.toWellFormed();
  const output = is_error ? { type: 'error-text' as const, value } : { type: 'text' as const, value };
  return { type: 'tool-result', toolCallId, toolName, output };
}
