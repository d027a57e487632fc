// The requests that the companion accepts from the jsonrpc function: `POST /exchange`, a whole request, which the
// companion counts and whose response the function relays; and `POST /jsonrpc`, a call that the function has counted.
// The function states the identity of the caller; it is trusted because of the ID token of its service account.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createOidcVerifier, type OidcOptions } from '../../shared/auth/oidc.ts';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import { CALL_CONTENT_TYPE, CALL_HEADER, decodeFacts, type ForwardedFacts } from '../../shared/forward/call.ts';
import { encodeReport, REPORT_HEADER } from '../../shared/forward/exchange.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields, severityOf } from '../../shared/log.ts';
import type { Services } from '../../shared/services.ts';
import { createTimings } from '../../shared/telemetry/timings.ts';
import { answerRequest } from '../server/answer-request.ts';
import { onHalfClose } from '../server/half-close.ts';
import { type HttpHandler, readBody, requestIdOf, sendError } from '../server/http.ts';

/** Larger than the limit of callers, because a request that is serialized again may have grown. */
const BODY_BYTES_MAX = 4 << 20;
const KEEP_ALIVE_MS = 15_000;

/** Answers a request of the function; `facts` are the statements of the function about it. */
type Answer = (req: IncomingMessage, res: ServerResponse, facts: ForwardedFacts) => Promise<void>;

export interface ForwardedHandlers {
  readonly call: HttpHandler;
  readonly exchange: HttpHandler;
  /** Loads modules for which the first request would wait. Never rejects. */
  warm(): Promise<void>;
}

export function createForwardedHandlers(
  services: Services,
  gateway: Gateway,
  options: OidcOptions = {},
): ForwardedHandlers {
  const { audience, caller: email } = services.config.companion;
  const verifier =
    audience === undefined || email === undefined
      ? undefined
      : createOidcVerifier({ audience, emails: [email] }, options);

  const accept = (answer: Answer): HttpHandler => {
    return async (req, res) => {
      try {
        if (req.method !== 'POST') throw new RpcError('method_not_allowed', { data: { allow: 'POST' } });
        if (verifier === undefined) {
          throw new RpcError('unauthorized', { message: 'Unauthorized: this service accepts no forwarded calls' });
        }
        await services.wrongCredentials.check(req, () => verifier.verify(req.headers.authorization));
        await answer(req, res, decodeFacts(req.headers[CALL_HEADER]));
      } catch (thrown) {
        const error = toRpcError(thrown);
        if (!(error instanceof CredentialError)) {
          services.log.log(severityOf(error.reason), 'forwarded call refused', {
            outcome: error.reason,
            ...errorFields(error.cause),
          });
        }
        if (res.headersSent) res.destroy();
        else sendError(res, error, requestIdOf(req));
      }
    };
  };
  return {
    warm: async () => verifier?.warm(),
    call: accept((req, res, facts) => answerCall(gateway, req, res, facts)),
    exchange: accept((req, res, facts) => {
      const timings = createTimings();
      const headers: Parameters<typeof answerRequest>[3]['headers'] = (rate) => ({
        [REPORT_HEADER]: encodeReport(timings.modelMs(), rate),
      });
      return answerRequest(gateway, req, res, { ...facts, timings, headers });
    }),
  };
}

/** Answers with one JSON-RPC message per line. */
async function answerCall(
  gateway: Gateway,
  req: IncomingMessage,
  res: ServerResponse,
  facts: ForwardedFacts,
): Promise<void> {
  const held = gateway.hold(facts.caller);
  res.once('close', held.release);
  const body = await readBody(req, BODY_BYTES_MAX, held.add);
  const left = new AbortController();
  res.once('close', () => left.abort(new RpcError('cancelled', { message: 'the client disconnected' })));
  res.writeHead(200, { 'Content-Type': CALL_CONTENT_TYPE, 'Cache-Control': 'no-store, no-transform' });
  res.flushHeaders();
  const keepAlive = setInterval(() => res.write('\n'), KEEP_ALIVE_MS);
  res.once('close', () => clearInterval(keepAlive));
  onHalfClose(res, () => res.write('\n'));
  const reply = await gateway.handle({
    ...facts,
    body,
    signal: left.signal,
    charged: true,
    held,
    notify: (method, params) => send(res, JSON.stringify({ jsonrpc: '2.0', method, params })),
  });
  clearInterval(keepAlive);
  if (reply.text !== undefined) await send(res, reply.text);
  res.end();
}

/** Writes a line. Resolves when more can be written. */
function send(res: ServerResponse, line: string): void | Promise<void> {
  if (res.destroyed || res.write(`${line}\n`)) return;
  return new Promise((resolve) => {
    const done = (): void => {
      res.off('drain', done).off('close', done);
      resolve();
    };
    res.on('drain', done).on('close', done);
  });
}
