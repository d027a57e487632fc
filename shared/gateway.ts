// Puts the pieces together: the registry of methods behind the gates (authenticate, limit, scope, audit), for every
// transport alike.
import {
  type AuthenticateCall,
  type CredentialHeaders,
  createAuthenticate,
  createRecognize,
} from './auth/authenticate.ts';
import type { Caller } from './auth/keys/keys.ts';
import { RpcError } from './errors.ts';
import { shareOfHeap } from './heap-share.ts';
import { errorFields } from './log.ts';
import type { Connection, MethodContext } from './methods/define-method.ts';
import type { RateDecision } from './rate-limit/limiter.ts';
import { HTTP_ANSWER_BYTES_MAX, MESSAGE_BYTES_MAX } from './rpc/answers.ts';
import { type CallRecord, dispatch, type Reply } from './rpc/dispatch.ts';
import type { Call } from './rpc/envelope.ts';
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
  /** Most bytes of the answer as JSON; default: what the transport may carry. */
  readonly answerBytesMax?: number;
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
  /** Charges one caller outside JSON-RPC (`/webhook`, verbose health). Throws like the limit gate. */
  charge(
    caller: Caller,
    request: { readonly mayDegrade: boolean; readonly signal?: AbortSignal },
  ): Promise<RateDecision>;
  /** For the bytes of one request; to be released when its answer has been taken or its client has gone. */
  hold(caller: Caller): Held;
  handle(request: GatewayRequest): Promise<GatewayReply>;
}

/** Bytes of requests and answers held at a time, as far as a quarter of the heap goes. */
const IN_FLIGHT_BYTES_MIN = 32 << 20;
const IN_FLIGHT_BYTES_MAX = 256 << 20;
const LARGE_BODY_BYTES = 64 << 10;
/** Calls of `isBulky` methods that make their answers at a time, half of them of one key; the rest wait. */
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
  const { config, clock, limiter, log } = services;
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

  const take = async (
    caller: Caller,
    cost: number,
    mayDegrade: boolean,
    signal: AbortSignal | undefined,
  ): Promise<RateDecision> => {
    const decision = await limiter.take({
      keyId: caller.keyId,
      limits: caller.limits,
      cost,
      mayDegrade,
      ...(signal && { signal }),
    });
    if (decision.outcome !== 'admitted')
      throw new RateLimitError(
        decision,
        caller.limits.every(({ max }) => cost <= max),
      );
    return decision;
  };

  return {
    registry,
    authenticate,
    recognize,
    hold: (caller) => inFlight.open(caller.keyId),
    charge: (caller, { mayDegrade, signal }) => take(caller, 1, mayDegrade, signal),

    async handle(request) {
      const { caller, requestId, signal, transport, timings = createTimings() } = request;
      // Large bodies that arrive together are read one in each turn of the event loop. Not those of a socket, which are
      // in an order.
      const bodyBytes = request.body instanceof RpcError ? 0 : request.body.length;
      if (bodyBytes > LARGE_BODY_BYTES && transport !== 'ws') await nextTurn();
      let rate: RateDecision | undefined;
      let refusal: RpcError | undefined;
      const answerBytesMax = request.answerBytesMax ?? (transport === 'ws' ? MESSAGE_BYTES_MAX : HTTP_ANSWER_BYTES_MAX);
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
      const reply = await dispatch<MethodContext>(registry, {
        body: request.body,
        requestId,
        signal,
        answerBytesMax,
        ...(request.held && { hold: request.held.add }),
        gates: {
          async limit(cost, methods) {
            if (request.charged === true) return;
            const startMs = performance.now();
            try {
              const free = methods.filter((method) => method?.cost === 'free').length;
              const isFree = free > 0 && freeCalls.take(caller.keyId, free);
              rate = await take(caller, isFree ? cost - free : cost, methods.every(isCheap), signal);
              request.onRate?.(rate);
              if (request.refuseWith !== undefined) throw request.refuseWith;
            } catch (error) {
              if (error instanceof RateLimitError) rate = error.decision;
              if (error instanceof RpcError) refusal = error;
              throw error;
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
          context(_, { id }, batch) {
            const context = batch
              ? { ...shared, requestMetadata: requestMetadataInBatch(shared.requestMetadata, id) }
              : shared;
            // Over HTTP a notification is answered with 204 alone, also where events are accepted: it has no stream.
            return id === undefined && transport === 'sse'
              ? { ...context, transport: 'http', notify: NO_NOTIFY, notifyShared: undefined }
              : context;
          },
          audit(record) {
            audit(record, request, rate, timings);
            // A method may find the store gone or a budget spent after the limiter has let the call through.
            if (record.error?.status === 429 || record.error?.status === 503) refusal ??= record.error;
          },
        },
      });
      // Within a batch a failure is its own response's matter.
      return { ...reply, rate, refusal: reply.status === 200 ? undefined : refusal };
    },
  };

  /**
   * The headers are one and the calls are many: the id of each makes its key, so that a batch sent again is answered as
   * before; the position in a stream is none of them's.
   */
  function requestMetadataInBatch(
    requestMetadata: MethodContext['requestMetadata'],
    id: Call['id'],
  ): MethodContext['requestMetadata'] {
    const { idempotencyKey, lastEventId: _, ...rest } = requestMetadata;
    if (idempotencyKey === undefined || id === undefined || id === null) return rest;
    return { ...rest, idempotencyKey: `${idempotencyKey}#${id}` };
  }

  function audit(record: CallRecord, request: GatewayRequest, rate: RateDecision | undefined, timings: Timings): void {
    const internal = record.outcome === 'internal';
    const severity = internal ? 'ERROR' : WARNED.has(record.outcome) ? 'WARNING' : 'INFO';
    const cause = record.error?.cause;
    log.log(severity, 'call', {
      request_id: request.requestId,
      key_id: request.caller.keyId,
      transport: request.transport,
      method: record.method,
      outcome: record.outcome,
      ms: Math.round(record.durationMs * 1_000) / 1_000,
      overhead_ms: timings.overheadMs(),
      stages: timings.stages(),
      rate: rate && (rate.degraded ? `${rate.outcome} (degraded)` : rate.outcome),
      remaining: rate?.remaining,
      ...upstreamFields(record.error),
      ...(cause === undefined || !(internal || record.outcome === 'unavailable') ? {} : errorFields(cause)),
    });
  }
}

/** Outcomes that the call did not cause, and that an operator may have to investigate. */
const WARNED: ReadonlySet<string> = new Set(['unavailable', 'upstream_error', 'upstream_timeout']);

/** What failed behind the gateway. The words of a turn's failure are in the line of the turn. */
function upstreamFields(error: RpcError | undefined): Record<string, unknown> {
  if (error === undefined) return {};
  const { provider, model, status, session_id, turn_id } = error.data;
  const isUpstream = error.reason === 'upstream_error' || error.reason === 'upstream_timeout';
  if (!isUpstream && turn_id === undefined) return {};
  return { session_id, turn_id, provider, model, status, ...(turn_id === undefined && { error: error.message }) };
}

/** Converts a refusal of the limiter to an error of the table. */
export class RateLimitError extends RpcError {
  readonly decision: RateDecision;

  /** `mayPass`: the same request may pass later; a batch larger than a whole window never does. */
  constructor(decision: RateDecision, mayPass = true) {
    const reason =
      decision.outcome === 'rate_limited'
        ? 'rate_limited'
        : decision.outcome === 'revoked'
          ? 'unauthorized'
          : 'unavailable';
    super(reason, {
      ...(decision.retryAfterMs === undefined ? {} : { retryAfterMs: decision.retryAfterMs }),
      ...(reason === 'rate_limited' &&
        !mayPass && { retryable: false, message: 'Too Many Requests: the batch is larger than the limit' }),
      ...(reason === 'rate_limited'
        ? {
            data: {
              limit: decision.limit,
              remaining: decision.remaining,
              reset: Math.ceil(decision.resetAtMs / 1_000),
            },
          }
        : {}),
    });
    this.decision = decision;
  }
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

function isCheap(method: AnyMethod<MethodContext> | undefined): boolean {
  return method === undefined || isReadOnly(method);
}

function authorize(method: AnyMethod<MethodContext>, caller: Caller): void {
  const scopes: ReadonlySet<string> = caller.scopes;
  if (method.scope === null || scopes.has(method.scope)) return;
  throw new RpcError('forbidden', {
    message: `Forbidden: key "${caller.keyId}" lacks the scope "${method.scope}"`,
    data: { missing_scope: method.scope },
  });
}
