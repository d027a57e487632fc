// Bytes in, response out: parse -> envelope -> limit -> per call lookup -> scope -> params -> handle -> result. The one
// code path of every transport; the gateway passes limits, scopes and audit log as RequestHooks.
import { nextHeavyTurn } from '../async.ts';
import { RpcError, toRpcError } from '../errors.ts';
import { admit, type Begun, charge, holdAll, holdPage } from './admit.ts';
import { type Answers, createAnswers, failureText, HTTP_ANSWER_BYTES_MAX, noRoom } from './answers.ts';
import { type BadCall, type Call, type Envelope, type Id, isBad, readEnvelope } from './envelope.ts';
import type { CallState, Exchange, Reply, RequestHooks } from './exchange.ts';
import { createCallMemory, overloaded } from './in-flight.ts';
import { type AnyMethod, isReadOnly, type Registry } from './method.ts';
import { readParams } from './params/read-params.ts';
import { measureHeavy, parseRequest } from './parse.ts';

/** Most calls of one batch that run at a time; bounds the memory that they use. */
const BATCH_RUNNING_MAX = 8;
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
      await nextHeavyTurn();
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

  // The limiter has released all calls that it has counted together.
  if (exchange.isSpread && !batch) await nextHeavyTurn();
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
    // Many batches at a time would put calls of all of them into one iteration.
    if (exchange.isSpread || index >= BATCH_RUNNING_MAX) await nextHeavyTurn();
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

function refusal<Context>(error: RpcError, requestId: string, hooks: RequestHooks<Context>, id: Id = null): Reply {
  hooks.audit({ method: 'request', outcome: error.reason, durationMs: 0, error, details: {} });
  return { status: error.callStatus, text: failureText(id, error, requestId) };
}
