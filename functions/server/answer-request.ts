// Answers the JSON-RPC request of an authenticated caller as JSON or as a stream of Server-Sent Events. The jsonrpc
// function and the companion share this code, so their responses are the same.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { GatewayRequest } from '../../shared/exchange.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { HEADERS } from '../../shared/protocol.ts';
import type { RateDecision } from '../../shared/rate-limit/limiter.ts';
import type { Call } from '../../shared/rpc/envelope.ts';
import type { Held } from '../../shared/rpc/in-flight.ts';
import type { Timings } from '../../shared/telemetry/timings.ts';
import { openEventStream } from './event-stream.ts';
import { errorHeaders, rateHeaders, readBody, sendJsonText, sendNothing } from './http.ts';

export interface AnsweredRequest {
  readonly caller: Caller;
  readonly requestId: string;
  /** `sse`: the caller accepts a stream. */
  readonly transport: 'http' | 'sse';
  readonly requestMetadata: NonNullable<GatewayRequest['requestMetadata']>;
  /** Created when the request arrived. */
  readonly timings: Timings;
  /** Returns additional headers; called when the headers are sent. */
  readonly headers?: (rate: RateDecision | undefined) => OutgoingHttpHeaders;
  /**
   * Forwards a single call that runs a turn to an instance that counts and answers it. Resolves with false if that
   * instance does not accept such calls; then the call is counted and answered here. Undefined: all calls are answered
   * here.
   */
  readonly forward?: ((call: Call, body: Uint8Array) => Promise<boolean>) | undefined;
}

export async function answerRequest(
  gateway: Gateway,
  req: IncomingMessage,
  res: ServerResponse,
  request: AnsweredRequest,
): Promise<void> {
  const held = gateway.hold(request.caller);
  res.once('close', held.release);
  const body = await readBody(req, undefined, held.add).catch(toRpcError);
  // The client disconnected before its request was complete, so there is no response.
  if (body instanceof RpcError && body.reason === 'cancelled') return;
  if (!(await answerBody(gateway, res, request, body, held))) {
    await answerBody(gateway, res, { ...request, forward: undefined }, body, held);
  }
}

/** Returns false if the call should have been forwarded and the other instance did not accept it. */
async function answerBody(
  gateway: Gateway,
  res: ServerResponse,
  { caller, requestId, transport, requestMetadata, timings, headers: moreHeaders, forward }: AnsweredRequest,
  body: Uint8Array | RpcError,
  held: Held,
): Promise<boolean> {
  const stream = transport === 'sse' ? openEventStream(res) : undefined;
  const left = new AbortController();
  res.once('close', () => {
    if (!res.writableFinished) left.abort(new RpcError('cancelled', { message: 'the client disconnected' }));
  });
  const headersOf = (rate: RateDecision | undefined): OutgoingHttpHeaders => ({
    [HEADERS.requestId]: requestId,
    ...rateHeaders(rate),
    // Milliseconds of the request in this gateway, without the time of the model.
    [HEADERS.overheadMs]: timings.overheadMs(),
    ...moreHeaders?.(rate),
  });
  const reply = await gateway.handle({
    caller,
    body,
    requestId,
    transport,
    signal: left.signal,
    requestMetadata,
    timings,
    held,
    forwardsTurns: forward !== undefined,
    ...(stream && {
      notify: stream.notify,
      notifyShared: stream.notifyShared,
      onRate: (rate) => {
        // The headers of a stream are sent before the model answers, so all time until now is overhead.
        stream.headers = headersOf(rate);
      },
    }),
  });
  if (reply.forwarded !== undefined && forward !== undefined && !(body instanceof RpcError)) {
    stream?.discard();
    return forward(reply.forwarded, body);
  }
  const headers = { ...headersOf(reply.rate), ...(reply.refusal && errorHeaders(reply.refusal)) };
  if (stream?.started === true) stream.end(reply.text);
  else if (reply.text === undefined) sendNothing(res, headers);
  else if (stream !== undefined && reply.status === 200) {
    stream.start(headers);
    stream.end(reply.text);
  } else sendJsonText(res, reply.status, reply.text, headers);
  return true;
}
