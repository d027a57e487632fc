// `POST /jsonrpc`: JSON-RPC 2.0 over HTTP, answered as JSON, or as Server-Sent Events when the caller accepts them.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import type { Config } from '../../shared/config/config.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { GatewayRequest } from '../../shared/exchange.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields, severityOf } from '../../shared/log.ts';
import { HEADERS, PATHS } from '../../shared/protocol.ts';
import type { Services } from '../../shared/services.ts';
import { createTimings, type Timings } from '../../shared/timings.ts';
import { handleCors } from '../server/cors.ts';
import {
  errorHeaders,
  type HttpHandler,
  pathOf,
  rateHeaders,
  readBody,
  requestIdOf,
  sendJson,
  sendJsonText,
  sendNothing,
  socketUrlOf,
} from '../server/http.ts';
import { openEventStream } from './event-stream.ts';

/** Accepts its request at `/` and at `/jsonrpc`. */
export function createJsonRpcHandler(services: Services, gateway: Gateway): HttpHandler {
  const { log } = services;

  return async (req, res) => {
    const timings = createTimings();
    const requestId = requestIdOf(req);
    if (handleCors(req, res, services.origins, 'POST')) return;
    try {
      checkTarget(req);
      const authenticated = gateway.authenticate(req.headers, { client: req });
      const caller = authenticated instanceof Promise ? await authenticated : authenticated;
      await answer(req, res, caller, requestId, timings);
    } catch (thrown) {
      const error = toRpcError(thrown);
      // A started stream cannot become an error response; it is closed, so that its reader does not wait for ever.
      if (res.headersSent) res.destroy();
      if (!(error instanceof CredentialError)) {
        log.log(severityOf(error.reason), 'call refused', {
          request_id: requestId,
          outcome: error.reason,
          ...(error.reason === 'internal' || error.reason === 'unavailable' ? errorFields(error.cause) : {}),
        });
      }
      sendJson(
        res,
        error.httpStatus,
        {
          jsonrpc: '2.0',
          error: error.toWire(requestId),
          id: null,
        },
        { ...errorHeaders(error), [HEADERS.requestId]: requestId },
      );
    }
  };

  async function answer(
    req: IncomingMessage,
    res: ServerResponse,
    caller: Caller,
    requestId: string,
    timings: Timings,
  ): Promise<void> {
    const held = gateway.hold(caller);
    res.once('close', held.release);
    const body = await readBody(req, undefined, held.add).catch(toRpcError);
    // The client disconnected before its request was complete, so there is no response.
    if (body instanceof RpcError && body.reason === 'cancelled') return;
    const stream = acceptsEvents(req) ? openEventStream(res) : undefined;
    const left = new AbortController();
    res.once('close', () => {
      if (!res.writableFinished) left.abort(new RpcError('cancelled', { message: 'the client disconnected' }));
    });
    const request: GatewayRequest = {
      caller,
      body,
      requestId,
      transport: stream === undefined ? 'http' : 'sse',
      signal: left.signal,
      requestMetadata: requestMetadataOf(req, services.config),
      timings,
      held,
      ...(stream && {
        notify: stream.notify,
        notifyShared: stream.notifyShared,
        onRate: (rate) => {
          // The headers of a stream are sent before the model answers, so all time until now is overhead.
          stream.headers = { [HEADERS.requestId]: requestId, ...rateHeaders(rate), ...overheadHeader(timings) };
        },
      }),
    };
    const reply = await gateway.handle(request);
    const headers: OutgoingHttpHeaders = {
      [HEADERS.requestId]: requestId,
      ...rateHeaders(reply.rate),
      ...overheadHeader(timings),
      ...(reply.refusal && errorHeaders(reply.refusal)),
    };
    if (stream?.started === true) stream.end(reply.text);
    else if (reply.text === undefined) sendNothing(res, headers);
    else if (stream !== undefined && reply.status === 200) {
      stream.start(headers);
      stream.end(reply.text);
    } else sendJsonText(res, reply.status, reply.text, headers);
  }
}

function checkTarget(req: IncomingMessage): void {
  const path = pathOf(req);
  if (path !== '/' && path !== PATHS.jsonrpc)
    throw new RpcError('not_found', { message: `Not found: POST ${PATHS.jsonrpc} is here` });
  if (req.method !== 'POST') throw new RpcError('method_not_allowed', { data: { allow: 'POST, OPTIONS' } });
}

/** Milliseconds of the request in this gateway, without the time of the model. */
function overheadHeader(timings: Timings): OutgoingHttpHeaders {
  return { [HEADERS.overheadMs]: timings.overheadMs() };
}

const EVENT_STREAM = /^\s*text\/event-stream\s*(?:;(?!\s*q=0(?:\.0*)?\s*(?:;|$)).*)?$/i;

function acceptsEvents({ headers }: IncomingMessage): boolean {
  return headers.accept?.split(',').some((range) => EVENT_STREAM.test(range)) === true;
}

/** Deployed, `/ws` is at the address that the configuration names; a laptop's own is where the caller found it. */
function requestMetadataOf(
  req: IncomingMessage,
  config: Pick<Config, 'deployed' | 'socketUrl'>,
): NonNullable<GatewayRequest['requestMetadata']> {
  const idempotencyKey = req.headers['idempotency-key'];
  const lastEventId = req.headers['last-event-id'];
  const socketUrl = config.socketUrl ?? (config.deployed ? undefined : socketUrlOf(req));
  return {
    ...(typeof idempotencyKey === 'string' && idempotencyKey !== '' && { idempotencyKey }),
    ...(typeof lastEventId === 'string' && lastEventId !== '' && { lastEventId }),
    ...(socketUrl !== undefined && { socketUrl }),
  };
}
