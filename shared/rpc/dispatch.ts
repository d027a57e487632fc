// Bytes in, response out: parse -> envelope -> limit -> per call lookup -> scope -> params -> handle -> result. The one
// code path of every transport; the gateway passes limits, scopes and audit log as RequestHooks.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Issue, RpcError, toRpcError } from '../errors.ts';
import { type Answers, createAnswers, failureText, HTTP_ANSWER_BYTES_MAX, noRoom } from './answers.ts';
import { type BadCall, type Call, type Envelope, type Id, isBad, readEnvelope } from './envelope.ts';
import type { CallDetails, CallState, Exchange, Reply, RequestHooks } from './exchange.ts';
import { createCallMemory, overloaded } from './in-flight.ts';
import { checkParams } from './issues.ts';
import { type AnyMethod, isReadOnly, type Registry } from './method.ts';
import { PAGE_BYTES_MAX } from './page.ts';
import { measureHeavy, parseRequest } from './parse.ts';

/** Most calls of one batch that run at a time; bounds the memory that they use. */
export const BATCH_RUNNING_MAX = 8;
const UNSAFE_NUMBER = 'is a number that would lose digits (integers are exact up to 2^53): send it as a string';
/** Of a call that is begun when it is charged. */
const ADMITTED = Promise.resolve();
const NO_CONTENT: Reply = { status: 204, text: undefined };

/** The response of one call; the message is undefined for a notification. */
interface Answer<Message> {
  readonly message: Message | undefined;
  readonly status: number;
}

/** Answers one request. Never throws: every failure becomes a response from the error table. */
export async function dispatch<Context>(registry: Registry<Context>, exchange: Exchange<Context>): Promise<Reply> {
  const { hooks, requestId, hold = holdAll } = exchange;
  let envelope: Envelope;
  try {
    if (exchange.body instanceof RpcError) throw exchange.body;
    const heavyBytes = measureHeavy(exchange.body);
    if (heavyBytes !== undefined) {
      if (!hold(heavyBytes)) throw overloaded();
      // Parsing takes some tens of milliseconds, as measuring did.
      await nextTurn();
    }
    const { value, unsafeNumbers, heapBytes } = parseRequest(exchange.body);
    if (heavyBytes === undefined && !hold(heapBytes)) throw overloaded();
    envelope = readEnvelope(value, unsafeNumbers);
  } catch (error) {
    const charged = await charge(hooks, 1, []);
    return refusal(charged ?? toRpcError(error), requestId, hooks);
  }

  const { batch, calls } = envelope;
  const methods = calls.map((call) => (isBad(call) ? undefined : registry.get(call.method)));
  const [first] = calls;
  const [method] = methods;
  if (!batch && first !== undefined && !isBad(first) && method !== undefined && exchange.isForwarded?.(method)) {
    return { ...NO_CONTENT, forwarded: first };
  }
  const { refused, begun } = await admit(batch ? undefined : first, methods, exchange);
  if (refused !== undefined) {
    const refusedCalls = calls.filter((call) => call.id !== undefined);
    if (refusedCalls.length === 0) return { ...refusal(refused, requestId, hooks), unanswered: true };
    if (!batch) return refusal(refused, requestId, hooks, refusedCalls[0]?.id ?? null);
    hooks.audit({ method: 'batch', outcome: refused.reason, durationMs: 0, error: refused, details: {} });
    const texts = refusedCalls.map((call) => failureText(call.id ?? null, refused, requestId));
    return { status: refused.callStatus, text: toList(texts) };
  }

  const answered = calls.reduce((count, { id }) => (id === undefined ? count : count + 1), 0);
  const answers = createAnswers(requestId, exchange.answerBytesMax ?? HTTP_ANSWER_BYTES_MAX, answered, hold);
  if (!batch && first !== undefined) {
    const { message, status } = await answer(first, method, false, exchange, answers, begun);
    return message === undefined ? NO_CONTENT : { status, text: message };
  }
  const texts = await answerBatch(calls, methods, exchange, answers);
  return texts.length === 0 ? NO_CONTENT : { status: 200, text: toList(texts) };
}

/**
 * Answers one call that its transport has already parsed, with a message of `answers`; undefined for a notification.
 * Never throws.
 */
export async function dispatchCall<Context, Message>(
  registry: Registry<Context>,
  call: Call | BadCall,
  exchange: Omit<Exchange<Context>, 'body' | 'answerBytesMax'>,
  answers: Answers<Message>,
): Promise<Message | undefined> {
  const { hooks } = exchange;
  const method = isBad(call) ? undefined : registry.get(call.method);
  const { refused, begun } = await admit(call, isBad(call) ? [] : [method], exchange);
  if (refused === undefined) return (await answer(call, method, false, exchange, answers, begun)).message;
  hooks.audit({ method: 'request', outcome: refused.reason, durationMs: 0, error: refused, details: {} });
  return call.id === undefined ? undefined : answers.failure(call.id, refused);
}

/**
 * Runs BATCH_RUNNING_MAX calls at a time and returns their answers in the order of the calls. A call that lasts until
 * its client disconnects takes no slot, because the calls after it would never run.
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

/** One flat string: brackets added to it afterwards would cost another copy of megabytes. */
function toList(texts: readonly string[]): string {
  return [...texts.flatMap((text, index) => [index === 0 ? '[' : ',', text]), ']'].join('');
}

async function charge<Context>(
  hooks: RequestHooks<Context>,
  cost: number,
  methods: readonly (AnyMethod<Context> | undefined)[],
): Promise<RpcError | undefined> {
  try {
    return await hooks.limit(cost, methods);
  } catch (error) {
    return toRpcError(error);
  }
}

/**
 * Charges the calls of a request. A single call of a method that `startsEarly` begins meanwhile, if its scope and its
 * params are valid: its first reads and the commit of the limiter then take one round trip instead of two. What a
 * refused call has begun is dropped.
 */
async function admit<Context>(
  single: Call | BadCall | undefined,
  methods: readonly (AnyMethod<Context> | undefined)[],
  exchange: Omit<Exchange<Context>, 'body'>,
): Promise<{ readonly refused: RpcError | undefined; readonly begun?: Begun | undefined }> {
  const { hooks } = exchange;
  const decision = charge(hooks, Math.max(1, methods.length), methods);
  const [method] = methods;
  if (single === undefined || isBad(single) || method?.startsEarly !== true) return { refused: await decision };
  // A limiter that decides from memory has done so before the next iteration of the event loop; nothing is begun then.
  const decided = await Promise.race([decision.then((refused) => ({ refused })), nextTurn()]);
  if (decided !== undefined) return decided;
  const pages = method.isBulky === true ? 1 : 0;
  if (earlyPages + pages > EARLY_PAGES_MAX) return { refused: await decision };
  earlyPages += pages;
  const begun = beginEarly(single, method, exchange, decision);
  const refused = await decision;
  earlyPages -= pages;
  if (refused !== undefined) begun?.drop();
  return { refused, begun };
}

/**
 * Most calls for a page, of up to 1 MiB, that begin before the limiter has decided. 20 at once made `/health` wait for
 * 320 to 630 ms, because none of them waited for its slot; with this limit it is 124 ms.
 */
const EARLY_PAGES_MAX = 2;
let earlyPages = 0;

/** The run of a call, whose result is not awaited yet. */
interface Begun {
  readonly memory: OwnMemory;
  readonly details: CallDetails;
  readonly result: Promise<unknown>;
  /** Ignores the result, and frees the memory of the call when its run has ended. */
  drop(): void;
}

type OwnMemory = ReturnType<typeof createCallMemory>;

/** Undefined if the call is not valid: it is refused when it is charged, in the usual order of the checks. */
function beginEarly<Context>(
  call: Call,
  method: AnyMethod<Context>,
  { hooks, hold = holdAll }: Omit<Exchange<Context>, 'body'>,
  decision: Promise<RpcError | undefined>,
): Begun | undefined {
  let params: Record<string, unknown>;
  try {
    hooks.authorize(method);
    params = readParams(method, call);
  } catch {
    return undefined;
  }
  const memory = createCallMemory(hold, hooks.place);
  const details: CallDetails = {};
  const admitted = decision.then((refused) => {
    if (refused !== undefined) throw refused;
  });
  const limiter = { isDecided: false, isRefused: false };
  void decision.then((refused) => Object.assign(limiter, { isDecided: true, isRefused: refused !== undefined }));
  const run = async (): Promise<unknown> => {
    if (method.isBulky === true) {
      holdPage(memory);
      await memory.place();
      if (limiter.isRefused) throw new RpcError('cancelled');
    }
    const result = await method.handle(params, hooks.context(method, call, false, { memory, details, admitted }));
    // A limiter that is slow for one owner must not keep the slots from the calls of others.
    if (!limiter.isDecided) memory.leave();
    return result;
  };
  const result = run();
  // Handled when the call is answered; a refused call has no result.
  result.catch(() => {});
  admitted.catch(() => {});
  return {
    memory,
    details,
    result,
    drop: () => void result.catch(() => {}).finally(memory.release),
  };
}

async function answer<Context, Message>(
  call: Call | BadCall,
  method: AnyMethod<Context> | undefined,
  batch: boolean,
  { hooks, signal, hold = holdAll }: Omit<Exchange<Context>, 'body'>,
  answers: Answers<Message>,
  begun?: Begun,
): Promise<Answer<Message>> {
  const startedMs = performance.now();
  const { memory, details } = begun ?? { memory: createCallMemory(hold, hooks.place), details: {} };
  const name = isBad(call) ? 'invalid' : (method?.name ?? 'unknown');
  try {
    if (isBad(call)) throw call.error;
    // After a disconnect, calls that only read are cancelled: nothing uses their results. Calls that change data are
    // accepted and run.
    if (signal?.aborted === true && method !== undefined && isReadOnly(method)) throw new RpcError('cancelled');
    if (method?.isBulky === true) {
      if (answers.isFull) throw noRoom();
      if (begun === undefined) holdPage(memory);
    }
    const state = { memory, details, admitted: ADMITTED };
    const result = toResult(method, await (begun?.result ?? run(call, method, batch, hooks, state)));
    const isLarge = memory.isPlaced && call.id !== undefined;
    const text = isLarge ? await answers.serialize?.(call.id, result) : undefined;
    memory.release();
    const isRead = method !== undefined && isReadOnly(method);
    const message = call.id === undefined ? undefined : answers.success(call.id, result, isRead, text);
    hooks.audit({ method: name, outcome: 'ok', durationMs: performance.now() - startedMs, details });
    return { message, status: 200 };
  } catch (thrown) {
    if (begun === undefined) memory.release();
    else begun.drop();
    const error = toRpcError(thrown);
    hooks.audit({ method: name, outcome: error.reason, durationMs: performance.now() - startedMs, error, details });
    return {
      message: call.id === undefined ? undefined : answers.failure(call.id, error),
      status: isBad(call) ? error.callStatus : error.answerStatus,
    };
  }
}

/** The size of a page is not known yet, so a full page is counted before the handler reads anything. */
function holdPage(memory: OwnMemory): void {
  if (!memory.hold(PAGE_BYTES_MAX)) throw overloaded();
}

async function run<Context>(
  call: Call,
  method: AnyMethod<Context> | undefined,
  batch: boolean,
  hooks: RequestHooks<Context>,
  state: CallState,
): Promise<unknown> {
  if (method === undefined)
    throw new RpcError('method_not_found', { data: { hint: 'rpc.discover lists the methods' } });
  hooks.authorize(method);
  const params = readParams(method, call);
  if (method.isBulky === true) await state.memory.place();
  return method.handle(params, hooks.context(method, call, batch, state));
}

/** The schema of the result removes undeclared fields, so that they cannot leak. */
function toResult<Context>(method: AnyMethod<Context> | undefined, result: unknown): unknown {
  const parsed = method?.result.safeParse(result);
  if (parsed?.success === true) return parsed.data;
  throw new RpcError('internal', { cause: parsed?.error });
}

function readParams<Context>(
  method: AnyMethod<Context>,
  { params, unsafeNumbers = [] }: Call,
): Record<string, unknown> {
  if (unsafeNumbers.length > 0) {
    const issues = unsafeNumbers.map((path) => ({ path: path.slice(0, 200), message: UNSAFE_NUMBER }));
    throw new RpcError('invalid_params', { data: { issues } });
  }
  // An empty array is equal to absent params. A longer array is invalid, because params have no defined order.
  const isList = Array.isArray(params);
  if (isList && params.length > 0) {
    const message = 'params must be given by name, in an object';
    throw new RpcError('invalid_params', { data: { issues: [{ path: '', message } satisfies Issue] } });
  }
  const checked = checkParams(method.params, isList ? {} : (params ?? {}));
  if ('params' in checked) return checked.params;
  throw new RpcError('invalid_params', { data: { issues: checked.issues } });
}

function refusal<Context>(error: RpcError, requestId: string, hooks: RequestHooks<Context>, id: Id = null): Reply {
  hooks.audit({ method: 'request', outcome: error.reason, durationMs: 0, error, details: {} });
  return { status: error.callStatus, text: failureText(id, error, requestId) };
}

function holdAll(): boolean {
  return true;
}
