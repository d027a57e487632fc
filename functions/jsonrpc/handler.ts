// `POST /jsonrpc`: JSON-RPC 2.0 over HTTP, answered as JSON, or as Server-Sent Events when the caller accepts them.
import type { IncomingMessage } from 'node:http';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import type { Config } from '../../shared/config/config.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { GatewayRequest } from '../../shared/exchange.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields, severityOf } from '../../shared/log.ts';
import { HEADERS, PATHS } from '../../shared/protocol.ts';
import type { Services } from '../../shared/services.ts';
import { createTimings } from '../../shared/telemetry/timings.ts';
import { type AnsweredRequest, answerRequest } from '../server/answer-request.ts';
import { handleCors } from '../server/cors.ts';
import { errorHeaders, type HttpHandler, pathOf, requestIdOf, sendJson, socketUrlOf } from '../server/http.ts';
import type { Relay } from '../server/relay.ts';

/** Accepts its request at `/` and at `/jsonrpc`. `relay`: answers single calls that run a turn. */
export function createJsonRpcHandler(services: Services, gateway: Gateway, relay?: Relay): HttpHandler {
  const { log } = services;

  return async (req, res) => {
    const timings = createTimings();
    const requestId = requestIdOf(req);
    if (handleCors(req, res, services.origins, 'POST')) return;
    try {
      checkTarget(req);
      const authenticated = gateway.authenticate(req.headers, { client: req });
      const caller = authenticated instanceof Promise ? await authenticated : authenticated;
      const request = {
        caller,
        requestId,
        transport: acceptsEvents(req) ? 'sse' : 'http',
        requestMetadata: requestMetadataOf(req, services.config),
        timings,
      } as const;
      const forward: AnsweredRequest['forward'] =
        relay?.accepts(caller) === true ? (call, body) => relay.answer(res, { ...request, call, body }) : undefined;
      await answerRequest(gateway, req, res, { ...request, forward });
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
}

function checkTarget(req: IncomingMessage): void {
  const path = pathOf(req);
  if (path !== '/' && path !== PATHS.jsonrpc)
    throw new RpcError('not_found', { message: `Not found: this function serves POST ${PATHS.jsonrpc}` });
  if (req.method !== 'POST') throw new RpcError('method_not_allowed', { data: { allow: 'POST, OPTIONS' } });
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
