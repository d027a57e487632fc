// Records a request to the fake provider: its content, how much of the answer was sent, and which side ended it.
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Format } from './model-provider-wire.ts';

/** One request as the provider received it; times are epoch milliseconds. */
export interface SeenRequest {
  /** From 0, over the life of the server. */
  readonly index: number;
  readonly format: Format;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
  readonly model: string;
  /**
   * The last text of the user messages. Not the whole message: prompts that no answer separates arrive as blocks of one
   * message of Anthropic's wire, and the directives of an earlier one would be followed again.
   */
  readonly prompt: string;
  /** What tools answered since then. */
  readonly toolResults: readonly string[];
  readonly messages: number;
  readonly at: number;
  /** Client's port: equal for requests on one kept-alive connection. */
  readonly port: number;
  chunksSent: number;
  /** The script cut the connection, so that its closing is not the client's doing. */
  cutByServer: boolean;
  /** When the answer was over, and who ended it. */
  ended: { readonly at: number; readonly by: 'server' | 'client' } | undefined;
  /** Resolves with `ended`. */
  readonly done: Promise<{ readonly at: number; readonly by: 'server' | 'client' }>;
}

export function toRecord(
  index: number,
  format: Format,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  text: string,
): SeenRequest {
  const body: unknown = JSON.parse(text);
  const { promise: done, resolve } = Promise.withResolvers<{ at: number; by: 'server' | 'client' }>();
  const messages = toMessages(body);
  const promptAt = messages.findLastIndex(
    (message) => member(message, 'role') === 'user' && toLastText(message) !== '',
  );
  const model = /models\/([^:]+):/.exec(path)?.[1] ?? String(member(body, 'model'));
  const record: SeenRequest = {
    index,
    format,
    path,
    headers: request.headers,
    body,
    model,
    prompt: toLastText(messages[promptAt]),
    toolResults: messages.slice(promptAt + 1).flatMap(toToolResults),
    messages: messages.length,
    at: Date.now(),
    port: request.socket.remotePort ?? 0,
    chunksSent: 0,
    cutByServer: false,
    ended: undefined,
    done,
  };
  response.on('close', () => {
    record.ended = { at: Date.now(), by: response.writableFinished || record.cutByServer ? 'server' : 'client' };
    resolve(record.ended);
  });
  return record;
}

export function isStream(record: SeenRequest): boolean {
  return member(record.body, 'stream') === true || record.path.includes(':streamGenerateContent');
}

export function toFormat(method: string | undefined, path: string): Format | undefined {
  if (method !== 'POST') return undefined;
  const [bare = ''] = path.split('?');
  if (bare.endsWith('/v1/messages')) return 'anthropic';
  if (bare.endsWith('/v1/responses')) return 'openai';
  if (bare.endsWith('/chat/completions')) return 'chat';
  return /\/models\/[^/]+:(?:streamGenerateContent|generateContent)/.test(path) ? 'google' : undefined;
}

/**
 * Whether a request holds text that is only white space, which Anthropic refuses in every role; the others here do as
 * well.
 */
export function hasBlankText(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(hasBlankText);
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([name, inner]) =>
    typeof inner === 'string' ? TEXT_MEMBERS.has(name) && inner.trim() === '' : hasBlankText(inner),
  );
}

const TEXT_MEMBERS: ReadonlySet<string> = new Set(['text', 'content', 'output', 'system', 'instructions']);

function toMessages(body: unknown): readonly unknown[] {
  const list = member(body, 'messages') ?? member(body, 'input') ?? member(body, 'contents');
  if (typeof list === 'string') return [{ role: 'user', content: list }];
  return Array.isArray(list) ? list : [];
}

function toLastText(message: unknown): string {
  const content = member(message, 'content') ?? member(message, 'parts');
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part) => String(member(part, 'text') ?? '')).findLast((text) => text !== '') ?? '';
}

/** In the wires: `tool_result` blocks, `function_call_output` items, messages of `tool`, `functionResponse` parts. */
function toToolResults(message: unknown): string[] {
  if (member(message, 'type') === 'function_call_output') return [toPlain(member(message, 'output'))];
  if (member(message, 'role') === 'tool') return [toPlain(member(message, 'content'))];
  const parts = member(message, 'content') ?? member(message, 'parts');
  if (!Array.isArray(parts)) return [];
  return parts.flatMap((part) => {
    if (member(part, 'type') === 'tool_result') return [toPlain(member(part, 'content'))];
    const answer = member(member(part, 'functionResponse'), 'response');
    return answer === undefined ? [] : [toPlain(member(answer, 'content') ?? answer)];
  });
}

function toPlain(value: unknown): string {
  if (typeof value === 'string') return value;
  return Array.isArray(value)
    ? value.map((part) => String(member(part, 'text') ?? '')).join('')
    : JSON.stringify(value);
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

export function toReport({ index, format, path, model, prompt, messages, at, port, chunksSent, ended }: SeenRequest) {
  return { index, format, path, model, prompt, messages, at, port, chunksSent, ended: ended ?? null };
}
