// The messages of a conversation as the page shows them, and what an event of a turn changes in the last one. Pure.
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import type { EventBody } from '../../../shared/turn-events.ts';

/** As in a prompt and in the history. */
export interface Image {
  readonly type: 'image';
  readonly media_type: string;
  /** Base64. */
  readonly data: string;
}

export interface Message {
  readonly role: 'user' | 'assistant';
  readonly content: string;
  readonly images?: readonly Image[];
  readonly reasoning?: string;
  /** What the agent did before its answer, a line each. */
  readonly steps?: readonly string[];
  readonly state: 'done' | 'running' | 'cancelled' | 'failed' | 'partial';
  readonly failure?: GatewayError;
}

const STEPS_MAX = 100;

/** What is typed and attached for a prompt. */
export interface Draft {
  readonly text: string;
  readonly images: readonly Image[];
}

export function promptMessage({ text, images }: Draft): Message {
  return { role: 'user', content: text, state: 'done', ...(images.length > 0 && { images }) };
}

/** The `prompt` of a request: its parts if it has images, else its text. */
export function toPrompt({ text, images }: Draft): string | readonly object[] {
  if (images.length === 0) return text;
  return [...images, ...(text.trim() === '' ? [] : [{ type: 'text', text }])];
}

/** The images in the parts of a message of the history. */
export function imagesOf(
  parts: readonly { type: string; media_type?: string | undefined; data?: string | undefined }[] = [],
): readonly Image[] {
  return parts.flatMap(({ type, media_type, data }) =>
    type === 'image' && media_type !== undefined && data !== undefined ? [{ type, media_type, data }] : [],
  );
}

/** The answer of a turn that has just started. */
export const RUNNING: Message = { role: 'assistant', content: '', state: 'running' };

/** The message with one more event of its turn. */
export function withEvent(message: Message, event: EventBody): Message {
  const { AgentMessageDelta: answer, AgentReasoningDelta: thought, Error: failure } = event;
  const step = toStep(event);
  return {
    ...message,
    ...(answer && { content: message.content + answer.delta }),
    ...(thought && { reasoning: (message.reasoning ?? '') + thought.delta }),
    ...(failure && { failure: new GatewayError({ reason: failure.reason, message: failure.message }) }),
    ...(step !== undefined && { steps: [...(message.steps ?? []), step].slice(-STEPS_MAX) }),
  };
}

/** The message of a turn whose end is known by its status and its stored text. */
export function withEnd(message: Message, status: string, stored: string): Message {
  if (status === 'completed') return { ...message, content: stored, state: 'done' };
  // A gateway that crashed may have sent more than it had stored.
  const content = stored.length > message.content.length ? stored : message.content;
  if (status === 'cancelled') return { ...message, content, state: 'cancelled' };
  const failure = message.failure ?? new GatewayError({ reason: status, message: 'The turn did not complete' });
  return { ...message, content, state: 'failed', failure };
}

/** The message of a turn that ended with an error. */
export function withFailure(message: Message, failure: GatewayError): Message {
  return failure.reason === 'cancelled' ? { ...message, state: 'cancelled' } : { ...message, state: 'failed', failure };
}

function toStep(event: EventBody): string | undefined {
  if (event.ExecCommandBegin) return `ran ${event.ExecCommandBegin.command.join(' ')}`;
  if (event.ExecCommandEnd) return `exit code ${event.ExecCommandEnd.exit_code}`;
  if (event.McpToolCallBegin) return `called ${event.McpToolCallBegin.server}.${event.McpToolCallBegin.tool}`;
  if (event.McpToolCallEnd) return event.McpToolCallEnd.success ? 'the tool answered' : 'the tool failed';
  if (event.PatchApplyBegin) return `changes ${event.PatchApplyBegin.changes.length} file(s)`;
  return undefined;
}
