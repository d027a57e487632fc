// Writes answers in the wire formats of the fake provider: Anthropic Messages, OpenAI Responses, chat completions and
// Gemini streamGenerateContent, as their own servers do. Pure functions from an answer to text; no sockets.

export type Format = 'anthropic' | 'openai' | 'google' | 'chat';

export interface Answer {
  readonly id: string;
  readonly model: string;
  readonly inputTokens: number;
  /** Of the input tokens, and beside the tokens of the text. */
  readonly cachedTokens?: number;
  readonly reasoningTokens?: number;
}

export interface Wire {
  /** Before the first delta. */
  start(answer: Answer): string;
  /** One delta of the text. */
  delta(answer: Answer, text: string): string;
  /** One block of reasoning, before the text. */
  reasoning(answer: Answer, text: string): string;
  /** A request to call a tool, after the text; the answer then ends with reason `tool`. */
  toolCall(answer: Answer, call: ToolCall): string;
  /** A keep-alive that carries nothing. */
  ping(): string;
  /** After the last delta, the provider's end marker included. */
  end(answer: Answer, text: string, reason: EndReason): string;
  /** An error within a stream whose status was 200; the event names the error of `status`. */
  streamError(message: string, status: number): string;
  /** The body of an error status. */
  errorBody(status: number, message: string, code?: string): string;
  /** The answer to a request without a stream. */
  whole(answer: Answer, text: string): string;
}

export type EndReason = 'stop' | 'length' | 'refusal' | 'tool';

export interface ToolCall {
  readonly name: string;
  /** An object, or JSON text that is sent as it is. */
  readonly arguments: object | string;
}

const sse = (value: { readonly type: string; readonly [member: string]: unknown }): string =>
  `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
const data = (value: object): string => `data: ${JSON.stringify(value)}\n\n`;
/** One token per four characters: close enough, and easy to check in a test. */
export const countTokens = (text: string): number => Math.ceil(text.length / 4);

const ANTHROPIC_END = { stop: 'end_turn', length: 'max_tokens', refusal: 'refusal', tool: 'tool_use' };

const anthropic: Wire = {
  start: ({ id, model, inputTokens, cachedTokens }) =>
    sse({
      type: 'message_start',
      message: {
        id: `msg_${id}`,
        type: 'message',
        role: 'assistant',
        model,
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: { ...toAnthropicInput(inputTokens, cachedTokens), output_tokens: 1 },
      },
    }) + sse({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
  delta: (_, text) => block('content_block_delta', { index: 0, delta: { type: 'text_delta', text } }),
  reasoning: (_, text) =>
    block('content_block_start', { index: 1, content_block: { type: 'thinking', thinking: '', signature: '' } }) +
    block('content_block_delta', { index: 1, delta: { type: 'thinking_delta', thinking: text } }) +
    block('content_block_stop', { index: 1 }),
  toolCall: ({ id }, { name, arguments: args }) =>
    block('content_block_start', {
      index: 2,
      content_block: { type: 'tool_use', id: `toolu_${id}`, name, input: {} },
    }) +
    block('content_block_delta', {
      index: 2,
      delta: { type: 'input_json_delta', partial_json: toJson(args) },
    }) +
    block('content_block_stop', { index: 2 }),
  ping: () => block('ping', {}),
  end: ({ reasoningTokens }, text, reason) =>
    block('content_block_stop', { index: 0 }) +
    block('message_delta', {
      delta: { stop_reason: ANTHROPIC_END[reason], stop_sequence: null },
      usage: {
        output_tokens: countTokens(text) + (reasoningTokens ?? 0),
        ...(reasoningTokens && { output_tokens_details: { thinking_tokens: reasoningTokens } }),
      },
    }) +
    block('message_stop', {}),
  streamError: (message, status) => block('error', { error: { type: toErrorType(status), message } }),
  errorBody: (status, message) => JSON.stringify({ type: 'error', error: { type: toErrorType(status), message } }),
  whole: ({ id, model, inputTokens }, text) =>
    JSON.stringify({
      id: `msg_${id}`,
      type: 'message',
      role: 'assistant',
      model,
      content: [{ type: 'text', text }],
      stop_reason: 'end_turn',
      stop_sequence: null,
      usage: { input_tokens: inputTokens, output_tokens: countTokens(text) },
    }),
};

const openai: Wire = {
  start: (answer) =>
    block('response.created', { response: toResponse(answer, 'in_progress') }) +
    block('response.in_progress', { response: toResponse(answer, 'in_progress') }) +
    block('response.output_item.added', {
      output_index: 0,
      item: { type: 'message', id: `item_${answer.id}`, status: 'in_progress', role: 'assistant', content: [] },
    }) +
    block('response.content_part.added', {
      item_id: `item_${answer.id}`,
      output_index: 0,
      content_index: 0,
      part: { type: 'output_text', text: '', annotations: [] },
    }),
  delta: ({ id }, delta) =>
    block('response.output_text.delta', {
      item_id: `item_${id}`,
      output_index: 0,
      content_index: 0,
      delta,
      logprobs: [],
    }),
  reasoning: ({ id }, delta) =>
    block('response.output_item.added', { output_index: 1, item: { type: 'reasoning', id: `rs_${id}`, summary: [] } }) +
    block('response.reasoning_summary_part.added', { item_id: `rs_${id}`, output_index: 1, summary_index: 0 }) +
    block('response.reasoning_summary_text.delta', { item_id: `rs_${id}`, output_index: 1, summary_index: 0, delta }) +
    block('response.reasoning_summary_part.done', { item_id: `rs_${id}`, output_index: 1, summary_index: 0 }) +
    block('response.output_item.done', { output_index: 1, item: { type: 'reasoning', id: `rs_${id}`, summary: [] } }),
  toolCall: ({ id }, { name, arguments: args }) => {
    const item = { type: 'function_call', id: `fc_${id}`, call_id: `call_${id}`, name, arguments: '' };
    const done = { ...item, arguments: toJson(args), status: 'completed' };
    const where = { item_id: item.id, output_index: 2 };
    return (
      block('response.output_item.added', { output_index: 2, item }) +
      block('response.function_call_arguments.delta', { ...where, delta: done.arguments }) +
      block('response.function_call_arguments.done', { ...where, arguments: done.arguments }) +
      block('response.output_item.done', { output_index: 2, item: done })
    );
  },
  ping: () => block('keepalive', { sequence_number: 0 }),
  end: (answer, text, reason) => {
    const item = toMessage(answer, text, reason);
    const usage = toResponseUsage(answer, text);
    const done = block('response.output_item.done', { output_index: 0, item });
    if (reason === 'length') {
      const incomplete_details = { reason: 'max_output_tokens' };
      const response = { ...toResponse(answer, 'incomplete'), incomplete_details, output: [item], usage };
      return done + block('response.incomplete', { response });
    }
    return (
      done + block('response.completed', { response: { ...toResponse(answer, 'completed'), output: [item], usage } })
    );
  },
  streamError: (message, status) =>
    block('error', { code: toOpenAiCode(status), message, param: null, sequence_number: 9 }),
  errorBody: (status, message, code = toErrorType(status)) =>
    JSON.stringify({ error: { message, type: toErrorType(status), param: null, code } }),
  whole: (answer, text) =>
    JSON.stringify({
      ...toResponse(answer, 'completed'),
      output: [toMessage(answer, text, 'stop')],
      usage: toResponseUsage(answer, text),
    }),
};

const google: Wire = {
  start: () => '',
  delta: ({ id, model }, text) =>
    data({
      candidates: [{ content: { role: 'model', parts: [{ text }] }, index: 0 }],
      modelVersion: model,
      responseId: id,
    }),
  reasoning: ({ id, model }, text) =>
    data({
      candidates: [{ content: { role: 'model', parts: [{ text, thought: true }] }, index: 0 }],
      modelVersion: model,
      responseId: id,
    }),
  toolCall: ({ model, id }, { name, arguments: args }) =>
    data({
      candidates: [{ content: { role: 'model', parts: [{ functionCall: { name, args: '<args>' } }] }, index: 0 }],
      modelVersion: model,
      responseId: id,
    }).replace('"<args>"', () => toJson(args)),
  ping: () => ': keep-alive\n\n',
  end: (answer, text, reason) => data(toGeminiEnd(answer, '', text, reason)),
  streamError: (message, status) => data({ error: { code: status, message, status: toGoogleStatus(status) } }),
  errorBody: (status, message) => JSON.stringify({ error: { code: status, message, status: toErrorType(status) } }),
  whole: (answer, text) => JSON.stringify(toGeminiEnd(answer, text, text, 'stop')),
};

const CHAT_END = { stop: 'stop', length: 'length', refusal: 'content_filter', tool: 'tool_calls' };

const chat: Wire = {
  start: (answer) => chunk(answer, { role: 'assistant', content: '' }),
  delta: (answer, content) => chunk(answer, { content }),
  reasoning: (answer, reasoning_content) => chunk(answer, { reasoning_content }),
  toolCall: (answer, { name, arguments: args }) =>
    chunk(answer, {
      tool_calls: [{ index: 0, id: `call_${answer.id}`, type: 'function', function: { name, arguments: '' } }],
    }) + chunk(answer, { tool_calls: [{ index: 0, function: { arguments: toJson(args) } }] }),
  ping: () => ': keep-alive\n\n',
  end: (answer, text, reason) =>
    `${chunk(answer, {}, CHAT_END[reason])}${data({ ...toChunk(answer), choices: [], usage: toChatUsage(answer, text) })}data: [DONE]\n\n`,
  streamError: (message, status) => data({ error: { code: status, message, type: toOpenAiCode(status) } }),
  errorBody: openai.errorBody,
  whole: (answer, content) =>
    JSON.stringify({
      ...toChunk(answer),
      object: 'chat.completion',
      choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
      usage: toChatUsage(answer, content),
    }),
};

function chunk(answer: Answer, delta: object, reason: string | null = null): string {
  return data({ ...toChunk(answer), choices: [{ index: 0, delta, logprobs: null, finish_reason: reason }] });
}

function toChunk({ id, model }: Answer) {
  return { id: `chatcmpl-${id}`, object: 'chat.completion.chunk', created: 1_700_000_000, model };
}

function toChatUsage({ inputTokens, cachedTokens, reasoningTokens }: Answer, text: string) {
  const completion_tokens = countTokens(text) + (reasoningTokens ?? 0);
  return {
    prompt_tokens: inputTokens,
    completion_tokens,
    total_tokens: inputTokens + completion_tokens,
    ...(cachedTokens && { prompt_tokens_details: { cached_tokens: cachedTokens } }),
    ...(reasoningTokens && { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
  };
}

export const WIRES: Readonly<Record<Format, Wire>> = { anthropic, openai, google, chat };

function toJson(args: object | string): string {
  return typeof args === 'string' ? args : JSON.stringify(args);
}

function block(type: string, members: object): string {
  return sse({ type, ...members });
}

function toResponse({ id, model }: Answer, status: string) {
  return { id: `resp_${id}`, object: 'response', created_at: 1_700_000_000, model, status, output: [], error: null };
}

function toMessage({ id }: Answer, text: string, reason: EndReason) {
  const content =
    reason === 'refusal' ? [{ type: 'refusal', refusal: text }] : [{ type: 'output_text', text, annotations: [] }];
  return { type: 'message', id: `item_${id}`, status: 'completed', role: 'assistant', content };
}

function toAnthropicInput(inputTokens: number, cachedTokens = 0) {
  return { input_tokens: inputTokens - cachedTokens, ...(cachedTokens && { cache_read_input_tokens: cachedTokens }) };
}

function toResponseUsage({ inputTokens, cachedTokens, reasoningTokens }: Answer, text: string) {
  const output_tokens = countTokens(text) + (reasoningTokens ?? 0);
  return {
    input_tokens: inputTokens,
    output_tokens,
    total_tokens: inputTokens + output_tokens,
    ...(cachedTokens && { input_tokens_details: { cached_tokens: cachedTokens } }),
    ...(reasoningTokens && { output_tokens_details: { reasoning_tokens: reasoningTokens } }),
  };
}

function toGeminiEnd(
  { id, model, inputTokens, cachedTokens, reasoningTokens }: Answer,
  part: string,
  text: string,
  reason: EndReason,
) {
  const candidatesTokenCount = countTokens(text);
  return {
    candidates: [
      {
        content: { role: 'model', parts: [{ text: part }] },
        finishReason: { stop: 'STOP', tool: 'STOP', length: 'MAX_TOKENS', refusal: 'SAFETY' }[reason],
        index: 0,
      },
    ],
    usageMetadata: {
      promptTokenCount: inputTokens,
      candidatesTokenCount,
      ...(cachedTokens && { cachedContentTokenCount: cachedTokens }),
      ...(reasoningTokens && { thoughtsTokenCount: reasoningTokens }),
      totalTokenCount: inputTokens + candidatesTokenCount,
    },
    modelVersion: model,
    responseId: id,
  };
}

function toErrorType(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 404) return 'not_found_error';
  if (status === 429) return 'rate_limit_error';
  if (status === 529) return 'overloaded_error';
  return status < 500 ? 'invalid_request_error' : 'api_error';
}

function toOpenAiCode(status: number): string {
  if (status === 401) return 'invalid_api_key';
  if (status === 404) return 'model_not_found';
  return status === 429 ? 'rate_limit_exceeded' : 'server_error';
}

function toGoogleStatus(status: number): string {
  if (status === 401) return 'UNAUTHENTICATED';
  if (status === 404) return 'NOT_FOUND';
  if (status === 429) return 'RESOURCE_EXHAUSTED';
  return status === 500 ? 'INTERNAL' : 'UNAVAILABLE';
}
