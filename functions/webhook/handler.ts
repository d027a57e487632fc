// Handles `POST /webhook` and `POST /webhook/sweep`: admission, and the status of the response. The pipeline is
// shared/webhooks.
import type { IncomingMessage } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { createOidcVerifier, type OidcOptions } from '../../shared/auth/oidc.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { HEADERS, PATHS } from '../../shared/protocol.ts';
import type { Services } from '../../shared/services.ts';
import { createRide, type Ride } from '../../shared/store/ride.ts';
import { acceptDelivery } from '../../shared/webhooks/accept.ts';
import { sweep } from '../../shared/webhooks/sweep.ts';
import { handleCors } from '../server/cors.ts';
import { type HttpHandler, pathOf, rateHeaders, requestIdOf, sendError } from '../server/http.ts';
import { contentOf } from './delivery.ts';
import { createResponder, type Outcome, type Progress } from './respond.ts';
import { createSenderAuthentication } from './sender.ts';

/** The part of the gateway that this handler uses. */
export type WebhookDeps = Pick<Gateway, 'authenticate' | 'admit'>;

/** `/webhook` and `/` accept deliveries, `/webhook/sweep` and `/sweep` run the sweeper. */
export function createWebhookHandler(services: Services, gateway: WebhookDeps, options: OidcOptions = {}): HttpHandler {
  const { config, log, wrongCredentials } = services;
  const respond = createResponder(log);
  const authenticateSender = createSenderAuthentication(services, gateway);
  const { audience, serviceAccount: email } = config.push;
  const scheduler =
    audience === undefined || email === undefined
      ? undefined
      : createOidcVerifier({ audience, emails: [email] }, options);

  const admit = async (caller: Caller, scope: 'webhook' | 'admin', progress: Progress, ride?: Ride): Promise<void> => {
    const { rate, refusal } = await gateway.admit(caller, { scope, mayDegrade: false, ride });
    progress.headers = rateHeaders(rate);
    if (refusal !== undefined) throw refusal;
  };

  const deliver = async (req: IncomingMessage, progress: Progress): Promise<Outcome> => {
    const { caller, about, body } = await authenticateSender(req);
    progress.fields = { key_id: caller.keyId };
    // A request whose body cannot be read is charged like any other.
    const ride = services.store.isRemote && !(body instanceof RpcError) ? createRide() : undefined;
    const admitted = admit(caller, 'webhook', progress, ride);
    // A limiter that decides from memory has done so before the next iteration of the event loop. What it refuses is
    // not parsed.
    await (ride === undefined ? admitted : Promise.race([admitted, nextTurn()]));
    if (body instanceof RpcError) throw body;
    const counting = ride && { ride, admitted };
    const accepted = acceptDelivery(services, { ...about, body: contentOf(body, req) }, counting);
    // The refusal of the limiter comes before an error of the delivery.
    accepted.catch(() => ride?.end('left'));
    await admitted;
    const receipt = await accepted;
    progress.fields = { ...progress.fields, event_id: receipt.event_id, duplicate: receipt.duplicate };
    return { outcome: receipt.status, status: receipt.status === 'queued' ? 202 : 200, body: receipt };
  };

  /** For a key with the scope `admin`, or the configured service account (Cloud Scheduler). */
  const runSweep = async (req: IncomingMessage, progress: Progress): Promise<Outcome> => {
    const { 'x-api-key': key = '', authorization } = req.headers;
    if (scheduler !== undefined && key === '') {
      await wrongCredentials.check(req, () => scheduler.verify(authorization));
    } else {
      await admit(await gateway.authenticate(req.headers, { client: req }), 'admin', progress);
    }
    const result = await sweep(services);
    progress.fields = { ...result };
    return { outcome: 'swept', status: 200, body: result };
  };

  return async (req, res) => {
    const requestId = requestIdOf(req);
    res.setHeader(HEADERS.requestId, requestId);
    if (handleCors(req, res, services.origins, 'POST')) return;
    const path = pathOf(req);
    const isSweep = path === `${PATHS.webhook}/sweep` || path === '/sweep';
    if (!isSweep && path !== '/' && path !== PATHS.webhook) return sendError(res, new RpcError('not_found'), requestId);
    if (req.method !== 'POST') {
      return sendError(res, new RpcError('method_not_allowed', { data: { allow: 'POST, OPTIONS' } }), requestId);
    }
    await respond(res, requestId, (progress) => (isSweep ? runSweep : deliver)(req, progress));
  };
}
