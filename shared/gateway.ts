// Assembles the gateway for all transports: the registry of methods with authentication, and with the limits, scopes
// and audit log of exchange.ts.
import { nextHeavyTurn } from './async.ts';
import { type Admission, type AdmitRequest, createAdmit } from './auth/admission.ts';
import {
  type AuthenticateCall,
  type CredentialHeaders,
  createAuthenticate,
  createRecognize,
} from './auth/authenticate.ts';
import type { Caller } from './auth/keys/keys.ts';
import { shareOfHeap } from './bounds/heap-share.ts';
import { RpcError } from './errors.ts';
import { createExchanges, type GatewayRequest } from './exchange.ts';
import type { MethodContext } from './methods/define-method.ts';
import type { RateDecision } from './rate-limit/limiter.ts';
import type { Answers } from './rpc/answers.ts';
import { dispatch, dispatchCall } from './rpc/dispatch.ts';
import type { BadCall, Call } from './rpc/envelope.ts';
import type { Reply } from './rpc/exchange.ts';
import { createInFlight, type Held } from './rpc/in-flight.ts';
import type { Registry } from './rpc/method.ts';
import type { Services } from './services.ts';

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

export function createGateway(services: Services, registry: Registry<MethodContext>): Gateway {
  const { config, clock } = services;
  const keyring = {
    keys: services.keys,
    clock,
    defaultLimits: config.limits,
    wrongCredentials: services.wrongCredentials,
  };
  const authenticate = createAuthenticate(keyring);
  const recognize = createRecognize(keyring);
  const inFlight = createInFlight(Math.max(IN_FLIGHT_BYTES_MIN, shareOfHeap(1 / 4, IN_FLIGHT_BYTES_MAX)));
  const admit = createAdmit(services.limiter);
  const openExchange = createExchanges({ services, registry, admit });

  return {
    registry,
    authenticate,
    recognize,
    hold: (caller) => inFlight.open(caller.keyId),
    admit: (caller, request) => admit(caller, { ...request, cost: 1 }),

    async handle(request) {
      // Large bodies and batches are parsed one per iteration of the event loop. Not those of a WebSocket, whose
      // messages must stay in order.
      const { transport, body } = request;
      if (transport !== 'ws' && isHeavy(body)) await nextHeavyTurn();
      const isSpread = transport !== 'ws' && isLarge(body);
      const { exchange, admission } = openExchange(request);
      const reply = await dispatch<MethodContext>(registry, { ...exchange, body, isSpread });
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
}

function isLarge(body: Uint8Array | RpcError): boolean {
  return !(body instanceof RpcError) && body.length > LARGE_BODY_BYTES;
}

function isHeavy(body: Uint8Array | RpcError): boolean {
  if (body instanceof RpcError) return false;
  return isLarge(body) || body.find((byte) => byte > SPACE) === OPEN_ARRAY;
}
