// Puts the pieces together: the registry of methods behind authentication, limits, scopes and the audit log, for every
// transport alike.
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
  /** The bytes of the request, or why they could not be read. */
  readonly body: Uint8Array | RpcError;
  readonly requestId: string;
  readonly transport: 'http' | 'sse' | 'ws';
  readonly signal: AbortSignal;
  /** Transport facts a method may use (`Idempotency-Key`, `Last-Event-ID`). */
  readonly requestMetadata?: MethodContext['requestMetadata'];
  readonly notify?: MethodContext['notify'];
  readonly notifyShared?: MethodContext['notifyShared'];
  readonly connection?: Connection;
  /** Every call of this request is to be refused with this error, after it was read and charged. */
  readonly refuseWith?: RpcError;
  /** The instance that forwards this request has charged it already. */
  readonly charged?: boolean;
  /** Counts what the request and its answer hold. */
  readonly held?: Held;
  /** Started when the request came in; default: now. */
  readonly timings?: Timings;
  /** Receives the limiter's decision before any method runs, for headers that precede a stream. */
  onRate?(rate: RateDecision): void;
}

export interface GatewayReply extends Reply {
  /** The decision of the limiter; undefined when the call did not reach it. */
  readonly rate: RateDecision | undefined;
  /** The refusal behind a 429 or 503, for `Retry-After`. */
  readonly refusal: RpcError | undefined;
}

export interface Gateway {
  readonly registry: Registry<MethodContext>;
  /**
   * Headers only, before any body is read. Throws RpcError `unauthorized`, or `unavailable` when keys cannot be had.
   */
  authenticate(headers: CredentialHeaders, call?: AuthenticateCall): Caller | Promise<Caller>;
  /** The caller of a key by its digest, from the current state of the key. Throws like `authenticate`. */
  recognize(digest: Uint8Array): Caller | Promise<Caller>;
  /** Charges a caller and checks its scope outside JSON-RPC (`/webhook`, verbose health), by the rules of a call. */
  admit(caller: Caller, request: Omit<AdmitRequest, 'cost'>): Promise<Admission>;
  /** For the bytes of one request; to be released when its answer has been taken or its client has gone. */
  hold(caller: Caller): Held;
  handle(request: GatewayRequest): Promise<GatewayReply>;
  /** The same for one call that the transport has read itself; `answers` makes the message that it sends. */
  handleCall<Message>(
    request: Omit<GatewayRequest, 'body'>,
    call: Call | BadCall,
    answers: Answers<Message>,
  ): Promise<{ readonly message: Message | undefined } & Pick<GatewayReply, 'rate' | 'refusal'>>;
}

/** Bytes of requests and answers held at a time, as far as a quarter of the heap goes. */
const IN_FLIGHT_BYTES_MIN = 32 << 20;
const IN_FLIGHT_BYTES_MAX = 256 << 20;
const LARGE_BODY_BYTES = 64 << 10;
/** A batch begins with it, behind white space. */
const OPEN_ARRAY = 91;
const SPACE = 32;
/** Calls that make a large answer at a time, half of them of one key; the rest wait. */
const BULKY_SLOTS: SlotLimits = {
  perKey: 4,
  total: 8,
  waiting: 2_048,
  waitMs: 10_000,
  message: 'this instance makes as many large answers as it may at a time: send the call again later',
};

/** Calls of free methods that a key may send to an instance; beyond them they cost what other calls do. */
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
      // Large bodies and batches that arrive together are read one in each turn of the event loop. Not those of a
      // socket, which are in an order.
      if (request.transport !== 'ws' && isHeavy(request.body)) await nextTurn();
      const { exchange, admission } = openExchange(request);
      const reply = await dispatch<MethodContext>(registry, { ...exchange, body: request.body });
      const { rate, refusal } = admission;
      // Within a batch a failure is its own response's matter.
      return { ...reply, rate, refusal: reply.status === 200 ? undefined : refusal };
    },

    async handleCall(request, call, answers) {
      const { exchange, admission } = openExchange(request);
      const message = await dispatchCall(registry, call, exchange, answers);
      return { message, ...admission };
    },
  };

  /** What the calls of one request share. `admission` is filled while they run. */
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
          // Over HTTP a notification is answered with 204 alone, also where events are accepted: it has no stream.
          return id === undefined && transport === 'sse'
            ? { ...context, transport: 'http', notify: NO_NOTIFY, notifyShared: undefined }
            : context;
        },
        audit(record) {
          auditCall(log, record, { requestId, caller, transport, rate: admission.rate, timings });
          // A method may find the store gone or a budget spent after the limiter has let the call through.
          if (record.error?.callStatus === 429 || record.error?.callStatus === 503) admission.refusal ??= record.error;
        },
      },
    };
    return { exchange, admission };
  }
}

/**
 * The headers are one and the calls are many: the id of each makes its key, so that a batch sent again is answered as
 * before; no call takes over the position in a stream.
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
 * Each call resolves in a turn of the event loop of its own. The embedded store answers without waiting, so that calls
 * which hand on to each other would keep the loop from everything else.
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
