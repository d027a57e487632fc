// A real HTTP server on loopback that answers as OpenAI's Responses API does (server-sent events), with one scripted
// step per request, so that an agent can be led through tool calls. It records the received requests and which side
// ended each answer, and imports nothing of the gateway.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Checks, createChecks } from './model-provider-checks.ts';

/** One request as the provider received it. */
export interface AgentRequest {
  /** From 0, over the life of the server. */
  readonly index: number;
  readonly path: string;
  readonly authorization: string | undefined;
  /** Required by ChatGPT's backend. */
  readonly account: string | undefined;
  readonly model: string;
  readonly instructions: string;
  /** `input` of the request: messages, tool calls and their outputs. */
  readonly input: readonly InputItem[];
  /** URLs of the images in `input`. */
  readonly images: readonly string[];
  /** Names of the tools that the model may call. */
  readonly tools: readonly string[];
  readonly effort: unknown;
  readonly format: unknown;
  /** Bytes of the whole body. */
  readonly sizeBytes: number;
  /** Text of the last user message. */
  readonly prompt: string;
  /** Output of the tool call that this request answers; undefined when it has a new prompt. */
  readonly toolOutput: string | undefined;
  /** Resolves when the answer is over, and who ended it. */
  readonly ended: Promise<'server' | 'client'>;
}

export interface InputItem {
  readonly type: string;
  readonly role?: string | undefined;
  /** Texts of a message, or the output of a call. */
  readonly text: string;
}

/** What to answer. Steps with `gate` wait for it before they end. */
export type Step =
  | {
      readonly text: string | readonly string[];
      readonly reasoning?: string;
      readonly gate?: Promise<void>;
      readonly delayMs?: number;
    }
  /** `texts`: a message before the call. `isUnlisted`: the request does not offer the tool. */
  | { readonly call: string; readonly args: object; readonly texts?: string; readonly isUnlisted?: true }
  | { readonly custom: string; readonly input: string }
  | { readonly status: number; readonly message?: string; readonly headers?: Readonly<Record<string, string>> }
  /** The body ends after the first delta, without the end marker. */
  | { readonly cut: string }
  /** The response fails with this code after its status was 200. */
  | { readonly failed: string; readonly message?: string };

export interface ResponsesApi {
  readonly url: string;
  readonly requests: readonly AgentRequest[];
  /** Of tokens, before a login. */
  readonly checks: Checks;
  /** Other paths that were requested, and calls of tools that were not in the request; there should be none. */
  readonly strays: readonly string[];
  behave(behaviour: (request: AgentRequest) => Step): void;
  /** The next request to arrive, from this call on. */
  next(): Promise<AgentRequest>;
  close(): Promise<void>;
}

const BODY_BYTES_MAX = 32 << 20;

/** Starts the API on 127.0.0.1. Default behaviour: says `You said: ` and the prompt. */
export async function startResponsesApi(): Promise<ResponsesApi> {
  const requests: AgentRequest[] = [];
  const strays: string[] = [];
  const waiting: ((request: AgentRequest) => void)[] = [];
  const checks = createChecks();
  let behaviour = (request: AgentRequest): Step => ({ text: `You said: ${request.prompt}` });
  const server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    if (checks.handle(request, response)) return;
    const body = await read(request);
    if (request.method !== 'POST' || !/\/(v1|codex)\/responses$/.test(path)) {
      strays.push(`${request.method} ${path}`);
      response.writeHead(404).end('{}');
      return;
    }
    const seen = toRequest(requests.length, request, response, body);
    requests.push(seen);
    for (const resolve of waiting.splice(0)) resolve(seen);
    const step = behaviour(seen);
    const called = 'call' in step && !step.isUnlisted ? step.call : 'custom' in step ? step.custom : undefined;
    if (called !== undefined && !seen.tools.includes(called)) strays.push(`call of ${called}, not of ${seen.tools}`);
    await play(seen, step, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    checks,
    strays,
    behave(next) {
      behaviour = next;
    },
    next: () => new Promise((resolve) => waiting.push(resolve)),
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function play(request: AgentRequest, step: Step, response: ServerResponse): Promise<void> {
  if ('status' in step) {
    const message = step.message ?? `status ${step.status} as asked`;
    response.writeHead(step.status, { 'content-type': 'application/json', ...step.headers });
    response.end(JSON.stringify({ error: { message, type: 'error', param: null, code: null } }));
    return;
  }
  if ('delayMs' in step) await new Promise((resolve) => setTimeout(resolve, step.delayMs));
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const send = (type: string, members: object): void => {
    response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...members })}\n\n`);
  };
  const id = `resp_${request.index}`;
  const answer = { id, object: 'response', created_at: 1_700_000_000, model: request.model };
  send('response.created', { response: { ...answer, status: 'in_progress', output: [] } });
  if ('cut' in step) {
    open(send, request.index);
    const place = { item_id: `msg_${request.index}`, output_index: 0, content_index: 0, logprobs: [] };
    send('response.output_text.delta', { ...place, delta: step.cut });
    response.end();
    return;
  }
  if ('failed' in step) {
    const error = { code: step.failed, message: step.message ?? `${step.failed} as asked` };
    send('response.failed', { response: { ...answer, status: 'failed', output: [], error } });
    response.end();
    return;
  }
  if ('texts' in step && step.texts !== undefined) {
    const item = await sendText(send, request.index, { text: step.texts });
    send('response.output_item.done', { output_index: 0, item });
  }
  const item = 'text' in step ? await sendText(send, request.index, step) : toCall(request.index, step);
  send('response.output_item.done', { output_index: 0, item });
  const usage = {
    input_tokens: 100,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 10,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 110,
  };
  send('response.completed', { response: { ...answer, status: 'completed', output: [item], usage } });
  response.end();
}

type Send = (type: string, members: object) => void;

function open(send: Send, index: number): void {
  const item = { type: 'message', id: `msg_${index}`, role: 'assistant', content: [] };
  send('response.output_item.added', { output_index: 0, item });
}

async function sendText(send: Send, index: number, step: Extract<Step, { text: unknown }>): Promise<object> {
  if (step.reasoning !== undefined) {
    const item = { type: 'reasoning', id: `rs_${index}`, summary: [{ type: 'summary_text', text: step.reasoning }] };
    send('response.output_item.added', { output_index: 0, item: { ...item, summary: [] } });
    send('response.reasoning_summary_part.added', { item_id: item.id, output_index: 0, summary_index: 0 });
    const delta = { item_id: item.id, output_index: 0, summary_index: 0, delta: step.reasoning };
    send('response.reasoning_summary_text.delta', delta);
    send('response.output_item.done', { output_index: 0, item });
  }
  open(send, index);
  const deltas = typeof step.text === 'string' ? [step.text] : step.text;
  const place = { item_id: `msg_${index}`, output_index: 0, content_index: 0, logprobs: [] };
  for (const delta of deltas) send('response.output_text.delta', { ...place, delta });
  await step.gate;
  const content = [{ type: 'output_text', text: deltas.join(''), annotations: [] }];
  return { type: 'message', id: `msg_${index}`, role: 'assistant', content };
}

function toCall(index: number, step: Extract<Step, { call: string } | { custom: string }>): object {
  const call_id = `call_${index}`;
  if ('custom' in step) {
    return { type: 'custom_tool_call', id: `ctc_${index}`, call_id, name: step.custom, input: step.input };
  }
  const { call: name, args } = step;
  return { type: 'function_call', id: `fc_${index}`, call_id, name, arguments: JSON.stringify(args) };
}

function toRequest(index: number, request: IncomingMessage, response: ServerResponse, text: string): AgentRequest {
  const body: unknown = JSON.parse(text);
  const input = list(body, 'input').map(toItem);
  const last = input.at(-1);
  return {
    index,
    path: request.url ?? '',
    authorization: request.headers.authorization,
    account: request.headers['chatgpt-account-id']?.toString(),
    model: String(member(body, 'model')),
    instructions: String(member(body, 'instructions') ?? ''),
    input,
    images: list(body, 'input').flatMap((item) =>
      list(item, 'content').flatMap((part) => {
        const url = member(part, 'image_url');
        return typeof url === 'string' ? [url] : [];
      }),
    ),
    tools: [body, ...list(body, 'input')].flatMap((holder) => list(holder, 'tools').flatMap(toToolNames)),
    format: member(member(body, 'text'), 'format'),
    effort: member(member(body, 'reasoning'), 'effort'),
    sizeBytes: Buffer.byteLength(text),
    prompt: input.findLast((item) => item.role === 'user')?.text ?? '',
    toolOutput: last?.type.endsWith('_call_output') ? last.text : undefined,
    ended: new Promise((resolve) => {
      response.on('close', () => resolve(response.writableFinished ? 'server' : 'client'));
    }),
  };
}

/** The names in a namespace; those in `functions` are called as if they were in none. */
function toToolNames(tool: unknown): string[] {
  const name = String(member(tool, 'name') ?? member(tool, 'type'));
  if (member(tool, 'type') !== 'namespace') return [name];
  return list(tool, 'tools')
    .flatMap(toToolNames)
    .map((each) => (name === 'functions' ? each : `${name}.${each}`));
}

function toItem(item: unknown): InputItem {
  const role = member(item, 'role');
  const content = member(item, 'content') ?? member(item, 'output') ?? '';
  const text = Array.isArray(content)
    ? content.map((part) => String(member(part, 'text') ?? '')).join('')
    : typeof content === 'string'
      ? content
      : JSON.stringify(content);
  return { type: String(member(item, 'type') ?? 'message'), role: typeof role === 'string' ? role : undefined, text };
}

function list(value: unknown, name: string): readonly unknown[] {
  const found = member(value, name);
  return Array.isArray(found) ? found : [];
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request) {
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_BYTES_MAX) request.destroy();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
