// Bytes in, response out: parse -> envelope -> limit -> per call lookup -> scope -> params -> handle -> result. The one
// code path of every transport; what a gate does (limits, scopes, audit) is handed in.
import { type Issue, RpcError, toRpcError } from '../errors.ts';
import { type Answers, createAnswers, failureText, HTTP_ANSWER_BYTES_MAX, noRoom } from './answers.ts';
import { type BadCall, type Call, type Envelope, type Id, isBad, readEnvelope } from './envelope.ts';
import { type CallMemory, createCallMemory, overloaded } from './in-flight.ts';
import { checkParams } from './issues.ts';
import { type AnyMethod, isReadOnly, type Registry } from './method.ts';
import { PAGE_BYTES_MAX } from './page.ts';
import { measureHeavy, parseRequest } from './parse.ts';

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
  /**
   * Charges `cost` calls, all or none, and returns the refusal (`rate_limited`, `unavailable`, `unauthorized` of a
   * revoked key), or undefined when the calls may run. Rejects when the caller left before the decision.
   */
  limit(cost: number, methods: readonly (AnyMethod<Context> | undefined)[]): Promise<RpcError | undefined>;
  /** Throws RpcError `forbidden` when the caller may not call this method. */
  authorize(method: AnyMethod<Context>): void;
  /** `batch`: the request holds other calls, too. `memory`: for what the call reads from elsewhere. */
  context(method: AnyMethod<Context>, call: Call, batch: boolean, memory: CallMemory): Context;
  /** Waits for a place of a call that holds much memory; resolves with what gives it back. Throws `unavailable`. */
  place?(): Promise<() => void>;
  audit(record: CallRecord): void;
}

export interface Exchange<Context> {
  /** The body, or why it could not be read (payload_too_large, unsupported_media_type): such a request is charged 1. */
  readonly body: Uint8Array | RpcError;
  readonly requestId: string;
  readonly gates: Gates<Context>;
  /** Most bytes of the answer; default HTTP_ANSWER_BYTES_MAX. */
  readonly answerBytesMax?: number;
  /** Aborted when the client has gone. */
  readonly signal?: AbortSignal;
  /** Counts bytes that are kept until the answer is sent; false when the instance cannot keep them. Default: it can. */
  readonly hold?: (bytes: number) => boolean;
}

export interface Reply {
  /** HTTP status; other transports ignore it. */
  readonly status: number;
  /**
   * The response, or the array of a batch's responses, as JSON text; undefined: nothing to answer (only notifications).
   */
  readonly text: string | undefined;
  /**
   * The request was a notification that was refused: HTTP answers it with a status and this text, other transports not
   * at all.
   */
  readonly unanswered?: true;
}

/** Calls of one batch that run at a time: what they hold meanwhile is bounded, however many they are. */
export const BATCH_RUNNING_MAX = 8;
const UNSAFE_NUMBER = 'is a number that would lose digits (integers are exact up to 2^53): send it as a string';
const NO_CONTENT: Reply = { status: 204, text: undefined };

/** One call's answer: the message is undefined for a notification. */
interface Answer<Message> {
  readonly message: Message | undefined;
  readonly status: number;
}

/** Answers one request. Never throws: whatever happens becomes a response of the error table. */
export async function dispatch<Context>(registry: Registry<Context>, exchange: Exchange<Context>): Promise<Reply> {
  const { gates, requestId, hold = holdAll } = exchange;
  let envelope: Envelope;
  try {
    if (exchange.body instanceof RpcError) throw exchange.body;
    const heavyBytes = measureHeavy(exchange.body);
    if (heavyBytes !== undefined && !hold(heavyBytes)) throw overloaded();
    const { value, unsafeNumbers, heapBytes } = parseRequest(exchange.body);
    if (heavyBytes === undefined && !hold(heapBytes)) throw overloaded();
    envelope = readEnvelope(value, unsafeNumbers);
  } catch (error) {
    const charged = await charge(gates, 1, []);
    return refusal(charged ?? toRpcError(error), requestId, gates);
  }

  const { batch, calls } = envelope;
  const methods = calls.map((call) => (isBad(call) ? undefined : registry.get(call.method)));
  const refused = await charge(gates, calls.length, methods);
  if (refused !== undefined) {
    const refusedCalls = calls.filter((call) => call.id !== undefined);
    if (refusedCalls.length === 0) return { ...refusal(refused, requestId, gates), unanswered: true };
    if (!batch) return refusal(refused, requestId, gates, refusedCalls[0]?.id ?? null);
    gates.audit({ method: 'batch', outcome: refused.reason, durationMs: 0, error: refused });
    const texts = refusedCalls.map((call) => failureText(call.id ?? null, refused, requestId));
    return { status: refused.callStatus, text: `[${texts.join()}]` };
  }

  const answered = calls.reduce((count, { id }) => (id === undefined ? count : count + 1), 0);
  const answers = createAnswers(requestId, exchange.answerBytesMax ?? HTTP_ANSWER_BYTES_MAX, answered, hold);
  const [first] = calls;
  if (!batch && first !== undefined) {
    const { message, status } = await answer(first, methods[0], false, exchange, answers);
    return message === undefined ? NO_CONTENT : { status, text: message };
  }
  const texts = await answerBatch(calls, methods, exchange, answers);
  return texts.length === 0 ? NO_CONTENT : { status: 200, text: `[${texts.join()}]` };
}

/**
 * Answers one call that its transport has read itself, with the message that `answers` makes of it; undefined for a
 * notification. Never throws.
 */
export async function dispatchCall<Context, Message>(
  registry: Registry<Context>,
  call: Call | BadCall,
  exchange: Omit<Exchange<Context>, 'body' | 'answerBytesMax'>,
  answers: Answers<Message>,
): Promise<Message | undefined> {
  const { gates } = exchange;
  const method = isBad(call) ? undefined : registry.get(call.method);
  const refused = await charge(gates, 1, isBad(call) ? [] : [method]);
  if (refused === undefined) return (await answer(call, method, false, exchange, answers)).message;
  gates.audit({ method: 'request', outcome: refused.reason, durationMs: 0, error: refused });
  return call.id === undefined ? undefined : answers.failure(call.id, refused);
}

/**
 * Runs BATCH_RUNNING_MAX calls at a time and returns their answers in the order of the calls. A call that lasts as long
 * as its reader takes no place: the calls behind it would never run.
 */
async function answerBatch<Context>(
  calls: Envelope['calls'],
  methods: readonly (AnyMethod<Context> | undefined)[],
  exchange: Exchange<Context>,
  answers: Answers,
): Promise<string[]> {
  const found: (string | undefined)[] = [];
  const endless: Promise<void>[] = [];
  let next = 0;
  const runOne = async (call: Call | BadCall, index: number): Promise<void> => {
    found[index] = (await answer(call, methods[index], true, exchange, answers)).message;
  };
  const work = async (): Promise<void> => {
    for (let call = calls[next]; call !== undefined; call = calls[next]) {
      const index = next++;
      const running = runOne(call, index);
      if (methods[index]?.isEndless === true) endless.push(running);
      else await running;
    }
  };
  await Promise.all(Array.from({ length: BATCH_RUNNING_MAX }, work));
  await Promise.all(endless);
  return found.filter((text) => text !== undefined);
}

async function charge<Context>(
  gates: Gates<Context>,
  cost: number,
  methods: readonly (AnyMethod<Context> | undefined)[],
): Promise<RpcError | undefined> {
  try {
    return await gates.limit(cost, methods);
  } catch (error) {
    return toRpcError(error);
  }
}

async function answer<Context, Message>(
  call: Call | BadCall,
  method: AnyMethod<Context> | undefined,
  batch: boolean,
  { gates, signal, hold = holdAll }: Omit<Exchange<Context>, 'body'>,
  answers: Answers<Message>,
): Promise<Answer<Message>> {
  const startedMs = performance.now();
  const memory = createCallMemory(hold, gates.place);
  const name = isBad(call) ? 'invalid' : (method?.name ?? 'unknown');
  try {
    if (isBad(call)) throw call.error;
    // What only reads is of no use to a client that has gone; a call that changes something was accepted, and does not
    // depend on it.
    if (signal?.aborted === true && method !== undefined && isReadOnly(method)) throw new RpcError('cancelled');
    if (method?.isBulky === true) {
      if (answers.isFull) throw noRoom();
      // What it will hold is not known yet: a page is counted as full, so that none is made which could not be kept.
      if (!memory.hold(PAGE_BYTES_MAX)) throw overloaded();
    }
    const result = await run(call, method, batch, gates, memory);
    memory.release();
    const message =
      call.id === undefined ? undefined : answers.success(call.id, result, method !== undefined && isReadOnly(method));
    gates.audit({ method: name, outcome: 'ok', durationMs: performance.now() - startedMs });
    return { message, status: 200 };
  } catch (thrown) {
    memory.release();
    const error = toRpcError(thrown);
    gates.audit({ method: name, outcome: error.reason, durationMs: performance.now() - startedMs, error });
    return {
      message: call.id === undefined ? undefined : answers.failure(call.id, error),
      status: isBad(call) ? error.callStatus : error.answerStatus,
    };
  }
}

async function run<Context>(
  call: Call,
  method: AnyMethod<Context> | undefined,
  batch: boolean,
  gates: Gates<Context>,
  memory: CallMemory,
): Promise<unknown> {
  if (method === undefined)
    throw new RpcError('method_not_found', { data: { hint: 'rpc.discover lists the methods' } });
  gates.authorize(method);
  const params = readParams(method, call);
  if (method.isBulky === true) await memory.place();
  const result = await method.handle(params, gates.context(method, call, batch, memory));
  // The result passes its schema too, so that an undeclared field cannot leak.
  const parsed = method.result.safeParse(result);
  if (!parsed.success) throw new RpcError('internal', { cause: parsed.error });
  return parsed.data;
}

function readParams<Context>(
  method: AnyMethod<Context>,
  { params, unsafeNumbers = [] }: Call,
): Record<string, unknown> {
  if (unsafeNumbers.length > 0) {
    const issues = unsafeNumbers.map((path) => ({ path: path.slice(0, 200), message: UNSAFE_NUMBER }));
    throw new RpcError('invalid_params', { data: { issues } });
  }
  // An empty list equals absent params; params have no defined order, so a longer list is invalid.
  const isList = Array.isArray(params);
  if (isList && params.length > 0) {
    const message = 'params must be given by name, in an object';
    throw new RpcError('invalid_params', { data: { issues: [{ path: '', message } satisfies Issue] } });
  }
  const checked = checkParams(method.params, isList ? {} : (params ?? {}));
  if ('params' in checked) return checked.params;
  throw new RpcError('invalid_params', { data: { issues: checked.issues } });
}

function refusal<Context>(error: RpcError, requestId: string, gates: Gates<Context>, id: Id = null): Reply {
  gates.audit({ method: 'request', outcome: error.reason, durationMs: 0, error });
  return { status: error.callStatus, text: failureText(id, error, requestId) };
}

function holdAll(): boolean {
  return true;
}
