// The push endpoint of the `deployments` subscription: verifies Pub/Sub's token, unwraps the message and applies the
// event (shared/webhooks/deployments.ts). A 2xx status acknowledges the message. After any other status, Pub/Sub
// delivers it again, and after the last attempt moves it to the dead-letter topic. So an invalid message gets 400, not
// 204: then the operator can inspect it as a dead letter. `POST /sweep` is for Cloud Scheduler, `GET /health` for
// uptime checks, which use the database: this function alone has invokers that Cloud Run checks, and no public ones.
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { bounded } from '../../shared/async.ts';
import { createInvokerVerifier, type InvokerVerifier } from '../../shared/auth/invoker.ts';
import type { OidcOptions } from '../../shared/auth/oidc.ts';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import { isReason, RpcError, toRpcError } from '../../shared/errors.ts';
import { errorFields, severityOf } from '../../shared/log.ts';
import { parseJson } from '../../shared/rpc/parse.ts';
import type { Services } from '../../shared/services.ts';
import { inTrace } from '../../shared/telemetry/trace.ts';
import { fromMessage, traceOf } from '../../shared/webhooks/bus/cloud-event.ts';
import { applyDeploymentEvent } from '../../shared/webhooks/deployments.ts';
import { type SweepResult, sweep } from '../../shared/webhooks/sweep.ts';
import { type HttpHandler, pathOf, readBody, requestIdOf, sendError, sendJson, sendNothing } from '../server/http.ts';

/** Maximum size of a push request: the largest event in Base64, and its envelope. */
const PUSH_BYTES_MAX = 2 << 20;

/** https://cloud.google.com/pubsub/docs/push#receive_push */
const Envelope = z.object({
  message: z.object({
    data: z.base64().default(''),
    attributes: z.record(z.string(), z.string()).default({}),
    messageId: z.string().max(256).default(''),
    orderingKey: z.string().max(1024).optional(),
  }),
  subscription: z.string().max(512).optional(),
});

const PATHS = ['/', '/deployments'];
const SWEEP_PATHS = ['/sweep', '/deployments/sweep'];
const HEALTH_PATHS = ['/health', '/deployments/health'];

/** Lower than 10 s, the timeout of the uptime check. */
const PING_TIMEOUT_MS = 5_000;

/**
 * `POST /deployments` (and `/`), and `/sweep` and `GET /health` below it. Without PUSH_AUDIENCE and the account of the
 * caller (PUSH_SERVICE_ACCOUNT, SWEEP_SERVICE_ACCOUNT, UPTIME_SERVICE_ACCOUNT) every request is refused, except on a
 * machine that is not deployed, where the emulator pushes without a token.
 */
export function createDeploymentsHandler(services: Services, options: OidcOptions = {}): HttpHandler {
  const { config, log, wrongCredentials } = services;
  const { audience, serviceAccount, sweeper, uptime, isInvokerChecked: isChecked } = config.push;
  const verifierOf = (email: string | undefined): InvokerVerifier | undefined =>
    audience === undefined || email === undefined
      ? undefined
      : createInvokerVerifier({ audience, emails: [email], isChecked }, options);
  const pushers = verifierOf(serviceAccount);
  const sweepers = verifierOf(sweeper);
  const checkers = verifierOf(uptime);

  const authenticate = async (req: IncomingMessage, verifier: InvokerVerifier | undefined): Promise<void> => {
    if (verifier !== undefined) return wrongCredentials.check(req, () => verifier.verify(req));
    if (config.deployed) {
      throw new RpcError('unauthorized', {
        message: 'Unauthorized: PUSH_AUDIENCE and the account of the caller are not configured',
      });
    }
  };

  return async (req, res) => {
    const requestId = requestIdOf(req);
    const started = performance.now();
    let fields = {};
    const audit = (outcome: string, more: object = {}): void => {
      const severity = isReason(outcome) ? severityOf(outcome) : 'INFO';
      const ms = Math.round((performance.now() - started) * 1_000) / 1_000;
      log.log(severity, 'deployment event', { request_id: requestId, outcome, ms, ...fields, ...more });
    };
    try {
      const path = pathOf(req);
      if (HEALTH_PATHS.includes(path)) {
        if (req.method !== 'GET') throw new RpcError('method_not_allowed', { data: { allow: 'GET' } });
        await authenticate(req, checkers);
        await bounded({ timeoutMs: PING_TIMEOUT_MS }, ({ signal }) => services.store.ping({ signal }));
        return sendJson(res, 200, { status: 'healthy' });
      }
      const isSweep = SWEEP_PATHS.includes(path);
      if (!isSweep && !PATHS.includes(path)) throw new RpcError('not_found');
      if (req.method !== 'POST') throw new RpcError('method_not_allowed', { data: { allow: 'POST' } });
      await authenticate(req, isSweep ? sweepers : pushers);
      if (isSweep) {
        const result = await sweepAll(services);
        audit('swept', { ...result });
        return sendJson(res, 200, result);
      }
      const message = unwrap(await readBody(req, PUSH_BYTES_MAX));
      fields = { message_id: message.messageId };
      const event = fromMessage({ ...message, data: Buffer.from(message.data, 'base64') });
      fields = { ...fields, event_id: event.id, event: event.type };
      // Its lines belong to the request that recorded the event, not to the delivery.
      await inTrace(traceOf(message.attributes), async () => audit(await applyDeploymentEvent(services, event)));
      sendNothing(res);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (!(error instanceof CredentialError))
        audit(
          error.reason,
          error.cause === undefined || error.reason === 'unauthorized' ? {} : errorFields(error.cause),
        );
      sendError(res, error, requestId);
    }
  };
}

/** Both parts run to their end: after a response the platform may take the CPU away. */
async function sweepAll(services: Services): Promise<SweepResult & { readonly expired: number }> {
  const [outbox, expiry] = await Promise.allSettled([sweep(services), services.conversations.eraseExpired()]);
  if (outbox.status === 'rejected') throw outbox.reason;
  if (expiry.status === 'fulfilled') return { ...outbox.value, expired: expiry.value };
  const { reason: error } = expiry;
  // The outbox could use the database. The index of expired sessions is not built yet, so this is no outage.
  if (!(error instanceof RpcError) || error.reason !== 'unavailable') throw error;
  services.log.warn('expired sessions are not erased yet', errorFields(error));
  return { ...outbox.value, expired: 0 };
}

function unwrap(body: Uint8Array): z.output<typeof Envelope>['message'] {
  const parsed = Envelope.safeParse(parseJson(body));
  if (parsed.success) return parsed.data.message;
  throw new RpcError('invalid_request', { data: { detail: 'not a Pub/Sub push envelope' } });
}
