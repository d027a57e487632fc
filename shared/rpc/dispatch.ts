// Bytes in, response out: parse -> envelope -> limit -> per call lookup -> scope -> params -> handle -> result. The one code path of
// every transport; what a gate does (limits, scopes, audit) is handed in.
import type { z } from 'zod';
import { ERRORS, type Issue, RpcError, toRpcError, type WireError } from '../errors.ts';
import { type BadCall, type Call, type Envelope, type Id, isBad, readEnvelope } from './envelope.ts';
import type { AnyMethod, Registry } from './method.ts';
import { parseJson } from './parse.ts';

/** What one call came to, for the audit line. */
export interface CallRecord {
  readonly method: string;
  readonly outcome: 'ok' | RpcError['reason'];
  readonly durationMs: number;
  /** The failure with its cause, for the log; undefined when the call succeeded. */
  readonly error?: RpcError;
}

/** The gates of one request, bound to its caller by the gateway. */
export interface Gates<Context> {
  /** Charges `cost` calls, all or none; throws RpcError `rate_limited`, `unauthorized` (revoked) or `unavailable`. */
  limit(cost: number, methods: readonly (AnyMethod<Context> | undefined)[]): Promise<void>;
  /** Throws RpcError `forbidden` when the caller may not call this method. */
  authorize(method: AnyMethod<Context>): void;
  /** `batch`: the request holds other calls, too. */
  context(method: AnyMethod<Context>, call: Call, batch: boolean): Context;
  audit(record: CallRecord): void;
}

export interface Exchange<Context> {
  /** The body, or why it could not be read (payload_too_large, unsupported_media_type): such a request is charged 1. */
  readonly body: Uint8Array | RpcError;
  readonly requestId: string;
  readonly gates: Gates<Context>;
}

export type Response =
  | { readonly jsonrpc: '2.0'; readonly result: unknown; readonly id: Id }
  | { readonly jsonrpc: '2.0'; readonly error: WireError; readonly id: Id };

export interface Reply {
  /** HTTP status (contract section 3); other transports ignore it. */
  readonly status: number;
  /** Undefined: nothing to answer (only notifications). */
  readonly payload: Response | readonly Response[] | undefined;
  /** The request was a notification that was refused: HTTP answers it with a status and this payload, other transports not at all. */
  readonly unanswered?: true;
}

const NO_CONTENT: Reply = { status: 204, payload: undefined };

/** Answers one request. Never throws: whatever happens becomes a response of the error table. */
export async function dispatch<Context>(registry: Registry<Context>, exchange: Exchange<Context>): Promise<Reply> {
  const { gates, requestId } = exchange;
  let envelope: Envelope;
  try {
    if (exchange.body instanceof RpcError) throw exchange.body;
    envelope = readEnvelope(parseJson(exchange.body));
  } catch (error) {
    const charged = await charge(gates, 1, []);
    return refusal(charged ?? toRpcError(error), requestId, gates);
  }

  const { batch, calls } = envelope;
  const methods = calls.map((call) => (isBad(call) ? undefined : registry.get(call.method)));
  const refused = await charge(gates, calls.length, methods);
  if (refused !== undefined) {
    const answered = calls.filter((call) => call.id !== undefined);
    if (answered.length === 0) return { ...refusal(refused, requestId, gates), unanswered: true };
    if (!batch) return refusal(refused, requestId, gates, answered[0]?.id ?? null);
    gates.audit({ method: 'batch', outcome: refused.reason, durationMs: 0, error: refused });
    return { status: refused.status, payload: answered.map((call) => failure(call.id ?? null, refused, requestId)) };
  }

  const responses = await Promise.all(calls.map((call, index) => answer(call, methods[index], batch, exchange)));
  if (!batch) return single(responses[0]);
  const payload = responses.filter((response) => response !== undefined);
  return payload.length === 0 ? NO_CONTENT : { status: 200, payload };
}

async function charge<Context>(
  gates: Gates<Context>,
  cost: number,
  methods: readonly (AnyMethod<Context> | undefined)[],
): Promise<RpcError | undefined> {
  try {
    await gates.limit(cost, methods);
    return undefined;
  } catch (error) {
    return toRpcError(error);
  }
}

/** One call: undefined for a notification, else its response. */
async function answer<Context>(
  call: Call | BadCall,
  method: AnyMethod<Context> | undefined,
  batch: boolean,
  { gates, requestId }: Exchange<Context>,
): Promise<Response | undefined> {
  const startedMs = performance.now();
  const name = isBad(call) ? 'invalid' : (method?.name ?? 'unknown');
  try {
    if (isBad(call)) throw call.error;
    const result = await run(call, method, batch, gates);
    gates.audit({ method: name, outcome: 'ok', durationMs: performance.now() - startedMs });
    return call.id === undefined ? undefined : { jsonrpc: '2.0', result, id: call.id };
  } catch (thrown) {
    const error = toRpcError(thrown);
    gates.audit({ method: name, outcome: error.reason, durationMs: performance.now() - startedMs, error });
    return call.id === undefined ? undefined : failure(call.id, error, requestId);
  }
}

async function run<Context>(
  call: Call,
  method: AnyMethod<Context> | undefined,
  batch: boolean,
  gates: Gates<Context>,
): Promise<unknown> {
  if (method === undefined)
    throw new RpcError('method_not_found', { data: { hint: 'rpc.discover lists the methods' } });
  gates.authorize(method);
  const params = readParams(method, call.params);
  const result = await method.handle(params, gates.context(method, call, batch));
  // The result passes its schema too, so that an undeclared field cannot leak.
  const parsed = method.result.safeParse(result);
  if (!parsed.success) throw new RpcError('internal', { cause: parsed.error });
  return parsed.data;
}

function readParams<Context>(method: AnyMethod<Context>, params: unknown): Record<string, unknown> {
  if (Array.isArray(params)) {
    throw new RpcError('invalid_params', {
      data: { issues: [{ path: '', message: 'params must be given by name, in an object' } satisfies Issue] },
    });
  }
  const parsed = method.params.safeParse(params ?? {});
  if (parsed.success) return parsed.data;
  throw new RpcError('invalid_params', { data: { issues: toIssues(parsed.error) } });
}

/** At most 20 findings, paths in dotted form. */
function toIssues(error: z.ZodError): Issue[] {
  return error.issues
    .slice(0, 20)
    .map((issue) => ({ path: issue.path.map(String).join('.').slice(0, 200), message: issue.message.slice(0, 200) }));
}

function single(response: Response | undefined): Reply {
  if (response === undefined) return NO_CONTENT;
  const status = 'error' in response ? ERRORS[response.error.data.reason].status : 200;
  return { status, payload: response };
}

function refusal<Context>(error: RpcError, requestId: string, gates: Gates<Context>, id: Id = null): Reply {
  gates.audit({ method: 'request', outcome: error.reason, durationMs: 0, error });
  return { status: error.status, payload: failure(id, error, requestId) };
}

function failure(id: Id, error: RpcError, requestId: string): Response {
  return { jsonrpc: '2.0', error: error.toWire(requestId), id };
}
