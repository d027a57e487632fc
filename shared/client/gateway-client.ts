// The client of the gateway, for Node 20 and later and for browsers. The first methods have the names and the behaviour
// of the plain client in the API's description: one request, the raw response. The others throw GatewayError, retry
// calls that may be repeated, and stream.
import { METHODS, PATHS } from '../protocol.ts';
import type { Notification, TurnEvent } from './events.ts';
import { GatewayError, unreachable } from './gateway-error.ts';
import { type HistoryMessage, type MessagesOptions, readMessages } from './messages.ts';
import type { Methods } from './methods.ts';
import {
  type CallOptions,
  type ClientOptions,
  type JsonRpcResponse,
  LONG_TIMEOUT_MS,
  type MethodTable,
  type StreamOptions,
  TIMEOUT_MS,
  timeoutOf,
} from './options.ts';
import { randomId } from './random-id.ts';
import { checkOutput, type StandardSchema, toJsonSchema } from './structured.ts';
import {
  type Call,
  callOnce,
  createEventStreams,
  type Endpoint,
  type OpenStream,
  postJson,
  readJson,
} from './transport/http.ts';
import { createOwnSockets } from './transport/own-socket.ts';
import { startDeadline } from './transport/timer.ts';
import { cancelWhenAborted } from './turns/cancel-turn.ts';
import { isRepeatable, withRetries } from './turns/retry.ts';
import { followTurn, type TurnRequest, type TurnStream, toTurnStream } from './turns/turn-stream.ts';

type Prompt = Methods['conversation.prompt'];
type Resume = Methods['conversation.resume'];
type History = Methods['conversation.history'];

const RETRIES = 4;

export class CodexGatewayClient<Table extends { readonly [Name in keyof Table]: MethodTable[string] } = Methods> {
  readonly #endpoint: Endpoint;
  readonly #open: OpenStream;
  readonly #retries: number;

  /**
   * `gatewayUrl` as in `GATEWAY_URL`, e.g. `http://127.0.0.1:8080`. Throws TypeError for a URL or a key that cannot be
   * sent.
   */
  constructor(gatewayUrl: string, apiKey: string, options: ClientOptions = {}) {
    const url = new URL(gatewayUrl);
    if (!/^https?:$/.test(url.protocol))
      throw new TypeError('the URL of the gateway must begin with http:// or https://');
    // The error of fetch would contain the key.
    if (!/^[\x21-\x7e]+$/.test(apiKey)) throw new TypeError('the API key has characters that a header cannot carry');
    const base = `${url.origin}${url.pathname}`.replace(/\/+$/, '');
    this.#endpoint = {
      url: base,
      key: apiKey,
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    };
    this.#retries = options.retries ?? RETRIES;
    if (options.streaming === 'websocket') {
      const Socket = options.WebSocket ?? (typeof WebSocket === 'undefined' ? undefined : WebSocket);
      if (Socket === undefined) throw new TypeError('this platform has no WebSocket: pass one in the options');
      this.#open = createOwnSockets(
        this.#endpoint,
        options.socketUrl ?? `${base.replace(/^http/, 'ws')}${PATHS.socket}`,
        Socket,
      );
    } else this.#open = createEventStreams(this.#endpoint);
  }

  /** `GET /health`, no key needed. */
  async healthCheck(): Promise<{ status: string }> {
    const { signal, end } = startDeadline(TIMEOUT_MS, undefined);
    try {
      const response = await this.#endpoint.fetch(`${this.#endpoint.url}${PATHS.health}`, {
        redirect: 'error',
        signal,
      });
      const body = await readJson(response, signal);
      if (isHealth(body)) return body;
      const message = 'GET /health did not return the health of a gateway: check the URL';
      throw new GatewayError({ reason: 'bad_response', message });
    } catch (error) {
      throw error instanceof GatewayError || signal.aborted ? error : unreachable(this.#endpoint.url, error);
    } finally {
      end();
    }
  }

  /** One request and its raw response: errors of the gateway are returned, not thrown, and nothing is retried. */
  async jsonrpcCall(method: string, params: object, id = 1): Promise<JsonRpcResponse> {
    const { signal, end } = startDeadline(LONG_TIMEOUT_MS, undefined);
    try {
      const response = await postJson(this.#endpoint, { jsonrpc: '2.0', method, params, id }, signal);
      return response as JsonRpcResponse;
    } finally {
      end();
    }
  }

  async conversationPrompt(prompt: string, sessionId?: string): Promise<JsonRpcResponse> {
    return this.jsonrpcCall(METHODS.prompt, { prompt, ...(sessionId && { session_id: sessionId }) });
  }

  async conversationStatus(sessionId: string): Promise<JsonRpcResponse> {
    return this.jsonrpcCall(METHODS.status, { session_id: sessionId });
  }

  async conversationCancel(sessionId: string): Promise<JsonRpcResponse> {
    return this.jsonrpcCall(METHODS.cancel, { session_id: sessionId });
  }

  /**
   * Calls a method. A prompt without an `idempotency_key` gets one, so that a retry cannot make it run twice. Throws
   * GatewayError, or the reason of an aborted `signal`.
   */
  async call<Name extends keyof Table & string>(
    method: Name,
    params: Table[Name]['params'],
    options: CallOptions = {},
  ): Promise<Table[Name]['result']> {
    const sent = method === METHODS.prompt ? { idempotency_key: randomId(), ...params } : params;
    return this.#callInTime(method, sent, options);
  }

  /**
   * Sends a prompt whose answer is JSON of `schema`, and returns it with `output` as the schema returns it. Throws
   * GatewayError, `bad_response` for an output that passes the JSON Schema but not the schema's own checks.
   */
  async structured<Output>(
    schema: StandardSchema<Output>,
    params: Prompt['params'],
    options: CallOptions = {},
  ): Promise<Prompt['result'] & { readonly output: Output }> {
    const output_schema = params.output_schema ?? toJsonSchema(schema);
    const sent = { idempotency_key: randomId(), ...params, output_schema };
    // The gateway has validated the result with the schema of this type.
    const answer = (await this.#callInTime(METHODS.prompt, sent, options)) as Prompt['result'];
    return { ...answer, output: await checkOutput(schema, answer.output) };
  }

  /** Sends a prompt and yields its events as they arrive. Nothing is sent before the first one is requested. */
  stream(prompt: string | Prompt['params'], options: StreamOptions = {}): TurnStream<Prompt['result']> {
    const given = typeof prompt === 'string' ? { prompt } : prompt;
    // Generates both if absent, so that the gateway recognises a repeated prompt after a lost connection.
    const session_id = given.session_id ?? `sess_${randomId()}`;
    const idempotency_key = given.idempotency_key ?? randomId();
    const params = { ...given, session_id, idempotency_key };
    return this.#turn<Prompt['result']>({ method: METHODS.prompt, params }, session_id, options);
  }

  /** Follows a running turn, or replays an ended one, after `after_seq`. */
  resume(params: Resume['params'], options: StreamOptions = {}): TurnStream<Resume['result']> {
    return this.#turn<Resume['result']>({ method: METHODS.resume, params }, params.session_id, options);
  }

  /**
   * Yields the messages of a session, page by page as they are taken; `timeoutMs` is for each page. Throws
   * GatewayError, `not_found` for a session that does not exist.
   */
  messages(sessionId: string, { order, ...options }: MessagesOptions = {}): AsyncGenerator<HistoryMessage, void, void> {
    // The gateway has validated the result with the schema of this type.
    const read = async (params: History['params']) =>
      (await this.#callInTime(METHODS.history, params, options)) as History['result'];
    return readMessages(read, { session_id: sessionId, ...(order !== undefined && { order }) });
  }

  /** One call on a stream, without retries: yields its notifications, returns its result (e.g. `events.subscribe`). */
  async *notifications<Name extends keyof Table & string>(
    method: Name,
    params: Table[Name]['params'],
    options: CallOptions = {},
  ): AsyncGenerator<Notification, Table[Name]['result'], void> {
    const { signal, end } = startDeadline(options.timeoutMs ?? Number.POSITIVE_INFINITY, options.signal);
    try {
      return yield* this.#open({ method, params, signal });
    } finally {
      end();
    }
  }

  #turn<Answer>(request: TurnRequest, sessionId: string, options: StreamOptions): TurnStream<Answer> {
    const start = () => this.#follow(request, sessionId, options);
    return toTurnStream(
      (async function* () {
        // The gateway has validated the result with the schema of this type.
        return (yield* start()) as Answer;
      })(),
    );
  }

  async *#follow(
    request: TurnRequest,
    sessionId: string,
    options: StreamOptions,
  ): AsyncGenerator<TurnEvent, unknown, void> {
    const deadline = startDeadline(timeoutOf(request.method, options), options.signal);
    const call = (sent: Call): Promise<unknown> => this.#call(sent, options.retries, deadline.leftMs);
    const events = followTurn({ open: this.#open, call, deadline, retries: options.retries ?? this.#retries }, request);
    try {
      const { signal } = deadline;
      return yield* options.cancelOnAbort === true ? cancelWhenAborted(events, { signal, sessionId, call }) : events;
    } finally {
      deadline.end();
    }
  }

  async #callInTime(method: string, params: object, options: CallOptions): Promise<unknown> {
    const { signal, leftMs, end } = startDeadline(timeoutOf(method, options), options.signal);
    try {
      return await this.#call({ method, params, signal }, options.retries, leftMs);
    } finally {
      end();
    }
  }

  #call(call: Call, retries: number | undefined, leftMs: () => number): Promise<unknown> {
    return withRetries(() => callOnce(this.#endpoint, call), {
      retries: retries ?? this.#retries,
      repeatable: isRepeatable(call.method),
      deadline: { signal: call.signal, leftMs },
    });
  }
}

function isHealth(body: unknown): body is { status: string } {
  return typeof body === 'object' && body !== null && 'status' in body && typeof body.status === 'string';
}
