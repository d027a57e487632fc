// Connects one request to the dispatcher: the hooks that charge its caller, check scopes, make the context of its
// methods and write its audit lines.
import { nextHeavyTurn } from './async.ts';
import { auditCall } from './audit.ts';
import { type Admit, missingScope } from './auth/admission.ts';
import type { Caller } from './auth/keys/keys.ts';
import { createSlots, type SlotLimits } from './bounds/slots.ts';
import { createTokenBuckets } from './bounds/token-buckets.ts';
import type { RpcError } from './errors.ts';
import type { Connection, MethodContext } from './methods/define-method.ts';
import type { RateDecision } from './rate-limit/limiter.ts';
import { HTTP_ANSWER_BYTES_MAX, MESSAGE_BYTES_MAX } from './rpc/answers.ts';
import type { Call } from './rpc/envelope.ts';
import type { Exchange, RequestHooks } from './rpc/exchange.ts';
import type { Held } from './rpc/in-flight.ts';
import { type AnyMethod, isReadOnly, type Registry } from './rpc/method.ts';
import type { Services } from './services.ts';
import { createRide, type Ride } from './store/ride.ts';
import { createTimings, type Timings } from './telemetry/timings.ts';

export interface GatewayRequest {
  readonly caller: Caller;
  /** The bytes of the request, or the error of reading them. */
  readonly body: Uint8Array | RpcError;
  readonly requestId: string;
  readonly transport: 'http' | 'sse' | 'ws';
  readonly signal: AbortSignal;
  /** Values of the transport that methods use (`Idempotency-Key`, `Last-Event-ID`). */
  readonly requestMetadata?: MethodContext['requestMetadata'];
  readonly notify?: MethodContext['notify'];
  readonly notifyShared?: MethodContext['notifyShared'];
  readonly connection?: Connection;
  /** Refuses every call of this request with this error, after the request is parsed and charged. */
  readonly refuseWith?: RpcError;
  /** The instance that forwarded this request has already charged it. */
  readonly charged?: boolean;
  /** A single call that runs a turn is not answered here: the reply is `forwarded`. */
  readonly forwardsTurns?: boolean;
  /** Counts the bytes of the request and its response. */
  readonly held?: Held;
  /** Created when the request arrived; default: now. */
  readonly timings?: Timings;
  /** Receives the limiter's decision before any method runs, for headers that precede a stream. */
  onRate?(rate: RateDecision): void;
}

export interface OpenExchange {
  readonly exchange: Omit<Exchange<MethodContext>, 'body'>;
  /** Filled while the calls of the request run. */
  readonly admission: { rate: RateDecision | undefined; refusal: RpcError | undefined };
}

export interface ExchangeDeps {
  readonly services: Services;
  readonly registry: Registry<MethodContext>;
  readonly admit: Admit;
}

type Hooks = RequestHooks<MethodContext>;

/** Calls that build a large response at a time, at most half of them of one key; the others wait. */
const BULKY_SLOTS: SlotLimits = {
  perKey: 4,
  total: 8,
  waiting: 2_048,
  waitMs: 10_000,
  message: 'this instance is building too many large responses: send the call again later',
};

/** Calls of free methods that a key may send to an instance; above this rate they are charged like other calls. */
const FREE_CALLS = { burst: 1_000, perSecond: 100, keysMax: 10_000 };

const NO_NOTIFY: MethodContext['notify'] = () => {};

/** Returns the function that opens the exchange of one request: the state that its calls share. */
export function createExchanges({ services, registry, admit }: ExchangeDeps) {
  const { clock, log } = services;
  const freeCalls = createTokenBuckets({ clock, ...FREE_CALLS });
  const bulky = createSlots(BULKY_SLOTS);

  return (request: Omit<GatewayRequest, 'body'>): OpenExchange => {
    const { caller, requestId, signal, transport, timings = createTimings() } = request;
    const admission: OpenExchange['admission'] = { rate: undefined, refusal: undefined };
    const answerBytesMax = transport === 'ws' ? MESSAGE_BYTES_MAX : HTTP_ANSWER_BYTES_MAX;
    let ride: Ride | undefined;
    const shared = {
      services,
      registry,
      caller,
      signal,
      requestId,
      timings,
      transport,
      requestMetadata: request.requestMetadata ?? {},
      notify: request.notify ?? NO_NOTIFY,
      notifyShared: request.notifyShared,
      connection: request.connection,
      answerBytesMax,
    };
    const hooks: Hooks = {
      isStoreRemote: services.store.isRemote,
      async limit(cost, methods) {
        if (request.charged === true) return undefined;
        const startMs = performance.now();
        // Beside a refusal that is certain, nothing is stored.
        if (request.refuseWith === undefined && services.store.isRemote && isPrompt(methods)) ride = createRide();
        try {
          const decision = await charge(request, cost, methods, ride);
          admission.rate = decision.rate;
          if (decision.refusal === undefined) request.onRate?.(decision.rate);
          admission.refusal = decision.refusal ?? request.refuseWith;
          return admission.refusal;
        } finally {
          timings.add({ phase: 'limit', startMs, endMs: performance.now() });
        }
      },
      authorize: (method) => authorize(method, caller),
      async place() {
        const leave = await bulky.acquire(caller.keyId, signal);
        await nextHeavyTurn();
        return leave;
      },
      context: (_, call, batch, state) => toContext({ ...shared, ...state, ride }, call, batch),
      audit(record) {
        auditCall(log, record, { requestId, caller, transport, rate: admission.rate, timings });
        // A method may fail with 429 or 503 after the limiter has admitted the call: a token budget is used up, or
        // the store is down.
        if (record.error?.callStatus === 429 || record.error?.callStatus === 503) admission.refusal ??= record.error;
      },
    };
    const exchange = {
      requestId,
      signal,
      answerBytesMax,
      hooks,
      ...(request.held && { hold: request.held.add }),
      ...(request.forwardsTurns && { isForwarded }),
    };
    return { exchange, admission };
  };

  /** Free methods cost nothing up to FREE_CALLS. */
  function charge(
    { caller, signal }: Pick<GatewayRequest, 'caller' | 'signal'>,
    cost: number,
    methods: readonly (AnyMethod<MethodContext> | undefined)[],
    ride: Ride | undefined,
  ): ReturnType<Admit> {
    const free = methods.filter((method) => method?.cost === 'free').length;
    const isFree = free > 0 && freeCalls.take(caller.keyId, free);
    const mayDegrade = methods.every(isCheap);
    return admit(caller, { cost: isFree ? cost - free : cost, scope: null, mayDegrade, signal, ride });
  }
}

/** The context of one call, which differs from that of its request in a batch and for a notification. */
function toContext(shared: MethodContext, { id }: Call, batch: boolean): MethodContext {
  const context = batch ? { ...shared, requestMetadata: requestMetadataInBatch(shared.requestMetadata, id) } : shared;
  // Over HTTP a notification is answered with 204 and no stream, also if the client accepts events.
  return id === undefined && shared.transport === 'sse'
    ? { ...context, transport: 'http', notify: NO_NOTIFY, notifyShared: undefined }
    : context;
}

/**
 * The headers belong to the whole batch. Each call gets an idempotency key made of the header and its id, so that a
 * repeated batch returns the same responses. No call gets `Last-Event-ID`.
 */
function requestMetadataInBatch(
  requestMetadata: MethodContext['requestMetadata'],
  id: Call['id'],
): MethodContext['requestMetadata'] {
  const { idempotencyKey, lastEventId: _, ...rest } = requestMetadata;
  if (idempotencyKey === undefined || id === undefined || id === null) return rest;
  return { ...rest, idempotencyKey: `${idempotencyKey}#${id}` };
}

function isForwarded(method: AnyMethod<MethodContext>): boolean {
  return method.isTurn === true;
}

/** A single prompt that begins before it is counted: its first commit may join that of the limiter. */
function isPrompt([method, ...others]: readonly (AnyMethod<MethodContext> | undefined)[]): boolean {
  return method?.isTurn === true && method.startsEarly === true && others.length === 0;
}

function isCheap(method: AnyMethod<MethodContext> | undefined): boolean {
  return method === undefined || isReadOnly(method);
}

function authorize(method: AnyMethod<MethodContext>, caller: Caller): void {
  const refusal = missingScope(caller, method.scope);
  if (refusal !== undefined) throw refusal;
}
