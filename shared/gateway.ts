// Assembles the gateway for all transports: the registry of methods with authentication, limits, scopes and the audit
// log.
import { auditCall } from './audit.ts';
import { type Admission, type AdmitRequest, createAdmit, missingScope } from './auth/admission.ts';
import {
  type AuthenticateCall,
  type CredentialHeaders,
  createAuthenticate,
  createRecognize,
} from './auth/authenticate.ts';
import type { Caller } from './auth/keys/keys.ts';
import { RpcError } from './errors.ts';
import { shareOfHeap } from './heap-share.ts';
import type { Connection, MethodContext } from './methods/define-method.ts';
import type { RateDecision } from './rate-limit/limiter.ts';
import { type Answers, HTTP_ANSWER_BYTES_MAX, MESSAGE_BYTES_MAX } from './rpc/answers.ts';
import { dispatch, dispatchCall, type Exchange, type Reply } from './rpc/dispatch.ts';
import type { BadCall, Call } from './rpc/envelope.ts';
import { createInFlight, type Held } from './rpc/in-flight.ts';
import { type AnyMethod, isReadOnly, type Registry } from './rpc/method.ts';
import type { Services } from './services.ts';
import { createSlots, type SlotLimits } from './slots.ts';
import { createTimings, type Timings } from './timings.ts';
import { createTokenBuckets } from './token-buckets.ts';

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
  /** Counts the bytes of the request and its response. */
  readonly held?: Held;
  /** Created when the request arrived; default: now. */
  readonly timings?: Timings;
  /** Receives the limiter's decision before any method runs, for headers that precede a stream. */
  onRate?(rate: RateDecision): void;
}

export interface GatewayReply extends Reply {
  /** The decision of the limiter; undefined when the request failed before it. */
  readonly rate: RateDecision | undefined;
  /** The refusal behind a 429 or 503, for `Retry-After`. */
  readonly refusal: RpcError | undefined;
}

export interface Gateway {
  readonly registry: Registry<MethodContext>;
  /**
   * Authenticates by the headers, before the body is read. Throws RpcError `unauthorized`, or `unavailable` when the
   * keys cannot be loaded.
   */
  authenticate(headers: CredentialHeaders, call?: AuthenticateCall): Caller | Promise<Caller>;
  /**
   * Returns the caller of a key by its digest, with the current scopes and limits of the key. Throws like
   * `authenticate`.
   */
  recognize(digest: Uint8Array): Caller | Promise<Caller>;
  /**
   * Charges a caller and checks its scope outside JSON-RPC (`/webhook`, verbose health), by the same rules as a call.
   */
  admit(caller: Caller, request: Omit<AdmitRequest, 'cost'>): Promise<Admission>;
  /**
   * Counts the bytes of one request. The transport releases them when the response is sent or the client has
   * disconnected.
   */
  hold(caller: Caller): Held;
  handle(request: GatewayRequest): Promise<GatewayReply>;
  /** The same for one call that the transport has parsed; `answers` serialises the response. */
  handleCall<Message>(
    request: Omit<GatewayRequest, 'body'>,
    call: Call | BadCall,
    answers: Answers<Message>,
  ): Promise<{ readonly message: Message | undefined } & Pick<GatewayReply, 'rate' | 'refusal'>>;
}

/** The bytes of requests and responses held at a time are a quarter of the heap, within these limits. */
const IN_FLIGHT_BYTES_MIN = 32 << 20;
const IN_FLIGHT_BYTES_MAX = 256 << 20;
const LARGE_BODY_BYTES = 64 << 10;
/** The first character of a batch, after white space. */
const OPEN_ARRAY = 91;
const SPACE = 32;
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

export function createGateway(services: Services, registry: Registry<MethodContext>): Gateway {
  const { config, clock, log } = services;
  const keyring = {
    keys: services.keys,
    clock,
    defaultLimits: config.limits,
    wrongCredentials: services.wrongCredentials,
  };
  const freeCalls = createTokenBuckets({ clock, ...FREE_CALLS });
  const authenticate = createAuthenticate(keyring);
  const recognize = createRecognize(keyring);
  const inFlight = createInFlight(Math.max(IN_FLIGHT_BYTES_MIN, shareOfHeap(1 / 4, IN_FLIGHT_BYTES_MAX)));
  const bulky = createSlots(BULKY_SLOTS);
  const nextTurn = createTurns();
  const admit = createAdmit(services.limiter);

  return {
    registry,
    authenticate,
    recognize,
    hold: (caller) => inFlight.open(caller.keyId),
    admit: (caller, request) => admit(caller, { ...request, cost: 1 }),

    async handle(request) {
      // Large bodies and batches are parsed one per iteration of the event loop. Not those of a WebSocket, whose
      // messages must stay in order.
      if (request.transport !== 'ws' && isHeavy(request.body)) await nextTurn();
      const { exchange, admission } = openExchange(request);
      const reply = await dispatch<MethodContext>(registry, { ...exchange, body: request.body });
      const { rate, refusal } = admission;
      // In a batch an error is part of its response only and does not change the HTTP status.
      return { ...reply, rate, refusal: reply.status === 200 ? undefined : refusal };
    },

    async handleCall(request, call, answers) {
      const { exchange, admission } = openExchange(request);
      const message = await dispatchCall(registry, call, exchange, answers);
      return { message, ...admission };
    },
  };

  /** The state that the calls of one request share. `admission` is filled while they run. */
  function openExchange(request: Omit<GatewayRequest, 'body'>): {
    readonly exchange: Omit<Exchange<MethodContext>, 'body'>;
    readonly admission: { rate: RateDecision | undefined; refusal: RpcError | undefined };
  } {
    const { caller, requestId, signal, transport, timings = createTimings() } = request;
    const admission: { rate: RateDecision | undefined; refusal: RpcError | undefined } = {
      rate: undefined,
      refusal: undefined,
    };
    const answerBytesMax = transport === 'ws' ? MESSAGE_BYTES_MAX : HTTP_ANSWER_BYTES_MAX;
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
    const exchange: Omit<Exchange<MethodContext>, 'body'> = {
      requestId,
      signal,
      answerBytesMax,
      ...(request.held && { hold: request.held.add }),
      hooks: {
        async limit(cost, methods) {
          if (request.charged === true) return undefined;
          const startMs = performance.now();
          try {
            const free = methods.filter((method) => method?.cost === 'free').length;
            const isFree = free > 0 && freeCalls.take(caller.keyId, free);
            const mayDegrade = methods.every(isCheap);
            const charged = isFree ? cost - free : cost;
            const decision = await admit(caller, { cost: charged, scope: null, mayDegrade, signal });
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
          await nextTurn();
          return leave;
        },
        context(_, { id }, batch, memory) {
          const { requestMetadata } = shared;
          const context = {
            ...shared,
            memory,
            ...(batch && { requestMetadata: requestMetadataInBatch(requestMetadata, id) }),
          };
          // Over HTTP a notification is answered with 204 and no stream, also if the client accepts events.
          return id === undefined && transport === 'sse'
            ? { ...context, transport: 'http', notify: NO_NOTIFY, notifyShared: undefined }
            : context;
        },
        audit(record) {
          auditCall(log, record, { requestId, caller, transport, rate: admission.rate, timings });
          // A method may fail with 429 or 503 after the limiter has admitted the call: a token budget is used up, or
          // the store is down.
          if (record.error?.callStatus === 429 || record.error?.callStatus === 503) admission.refusal ??= record.error;
        },
      },
    };
    return { exchange, admission };
  }
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

/**
 * Returns a function whose promises resolve one per iteration of the event loop. The embedded store answers
 * synchronously, so a sequence of calls would otherwise block all other I/O.
 */
function createTurns(): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return () => {
    last = last.then(() => new Promise((resolve) => setImmediate(resolve)));
    return last;
  };
}

function isHeavy(body: Uint8Array | RpcError): boolean {
  if (body instanceof RpcError) return false;
  return body.length > LARGE_BODY_BYTES || body.find((byte) => byte > SPACE) === OPEN_ARRAY;
}

function isCheap(method: AnyMethod<MethodContext> | undefined): boolean {
  return method === undefined || isReadOnly(method);
}

function authorize(method: AnyMethod<MethodContext>, caller: Caller): void {
  const refusal = missingScope(caller, method.scope);
  if (refusal !== undefined) throw refusal;
}
