// HTTP for `POST /webhook` and `POST /webhook/sweep`: authentication, headers, and the status of the response. The
// pipeline is shared/webhooks.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { hasKey } from '../../shared/auth/authenticate.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { createOidcVerifier, type OidcOptions } from '../../shared/auth/oidc.ts';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import { isReason, RpcError, toRpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields, severityOf } from '../../shared/log.ts';
import { HEADERS, PATHS } from '../../shared/protocol.ts';
import type { Services } from '../../shared/services.ts';
import { acceptDelivery } from '../../shared/webhooks/accept.ts';
import { type Delivery, EVENT_BODY_BYTES_MAX } from '../../shared/webhooks/interpret.ts';
import { createSignatureVerifier, type Signer } from '../../shared/webhooks/signatures.ts';
import { sweep } from '../../shared/webhooks/sweep.ts';
import { handleCors } from '../server/cors.ts';
import { type HttpHandler, pathOf, rateHeaders, readBody, requestIdOf, sendError, sendJson } from '../server/http.ts';

/** The part of the gateway that this handler uses. */
export type WebhookDeps = Pick<Gateway, 'authenticate' | 'admit'>;

/**
 * An authenticated sender: the key that is charged (or the pseudo key of a secret), and the body or the error of
 * reading it.
 */
interface Admitted {
  readonly caller: Caller;
  readonly about: Omit<Delivery, 'body'>;
  readonly body: Uint8Array | RpcError;
}

/** `/webhook` and `/` accept deliveries, `/webhook/sweep` and `/sweep` run the sweeper. */
export function createWebhookHandler(services: Services, gateway: WebhookDeps, options: OidcOptions = {}): HttpHandler {
  const { config, log, wrongCredentials } = services;
  const signatures = createSignatureVerifier(config.webhookSecrets);
  const { audience, serviceAccount: email } = config.push;
  const scheduler =
    audience === undefined || email === undefined
      ? undefined
      : createOidcVerifier({ audience, emails: [email] }, options);

  /**
   * A key is checked before the body is read. A valid signature of the body is sufficient, whatever key the request
   * has; if it is not valid, the key decides.
   */
  const admit = async (req: IncomingMessage): Promise<Admitted> => {
    if (config.webhookSecrets.length === 0 || !signatures.isSigned(req.headers)) {
      const caller = await gateway.authenticate(req.headers, { client: req });
      const body = await readBody(req, EVENT_BODY_BYTES_MAX).catch(toRpcError);
      return { caller, about: fromKey(caller, req), body };
    }
    const body = await readBody(req, EVENT_BODY_BYTES_MAX).catch(toRpcError);
    try {
      if (body instanceof RpcError) throw body;
      const signer = signatures.verify(req.headers, body);
      const caller = { keyId: ownerOf(signer), scopes: new Set(['webhook'] as const), limits: config.webhookLimits };
      return { caller, about: fromSigner(signer, req), body };
    } catch (refused) {
      const caller = await recognize(req);
      if (caller !== undefined) return { caller, about: fromKey(caller, req), body };
      return wrongCredentials.check(req, () => {
        throw refused;
      });
    }
  };

  /** The caller of the key of a request with an invalid signature; undefined if the key is unknown. */
  const recognize = async (req: IncomingMessage): Promise<Caller | undefined> => {
    if (!hasKey(req.headers)) return undefined;
    try {
      return await gateway.authenticate(req.headers, { client: req, isOptional: true });
    } catch (error) {
      if (error instanceof RpcError && error.reason === 'unauthorized') return undefined;
      throw error;
    }
  };

  const deliver = async (req: IncomingMessage, res: ServerResponse, requestId: string): Promise<void> => {
    const started = performance.now();
    let headers: OutgoingHttpHeaders = {};
    let fields = {};
    try {
      const { caller, about, body } = await admit(req);
      fields = { key_id: caller.keyId };
      // A request whose body cannot be read is charged like any other.
      const { rate, refusal } = await gateway.admit(caller, { scope: 'webhook', mayDegrade: false });
      headers = rateHeaders(rate);
      if (refusal !== undefined) throw refusal;
      if (body instanceof RpcError) throw body;
      const receipt = await acceptDelivery(services, { ...about, body: contentOf(body, req) });
      fields = { ...fields, event_id: receipt.event_id, duplicate: receipt.duplicate };
      audit(requestId, receipt.status, started, fields);
      sendJson(res, receipt.status === 'queued' ? 202 : 200, receipt, headers);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (!(error instanceof CredentialError))
        audit(requestId, error.reason, started, { ...fields, ...causeOf(error) });
      sendError(res, error, requestId, headers);
    }
  };

  const runSweep = async (req: IncomingMessage, res: ServerResponse, requestId: string): Promise<void> => {
    const started = performance.now();
    let headers: OutgoingHttpHeaders = {};
    try {
      // A key with the scope `admin`, or the configured service account (Cloud Scheduler).
      const { 'x-api-key': key = '', authorization } = req.headers;
      if (scheduler !== undefined && key === '') {
        await wrongCredentials.check(req, () => scheduler.verify(authorization));
      } else {
        const caller = await gateway.authenticate(req.headers, { client: req });
        const { rate, refusal } = await gateway.admit(caller, { scope: 'admin', mayDegrade: false });
        headers = rateHeaders(rate);
        if (refusal !== undefined) throw refusal;
      }
      const result = await sweep(services);
      audit(requestId, 'swept', started, { ...result });
      sendJson(res, 200, result, headers);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (!(error instanceof CredentialError)) audit(requestId, error.reason, started, causeOf(error));
      sendError(res, error, requestId, headers);
    }
  };

  function audit(requestId: string, outcome: string, started: number, fields: object): void {
    const ms = Math.round((performance.now() - started) * 1_000) / 1_000;
    log.log(isReason(outcome) ? severityOf(outcome) : 'INFO', 'webhook', {
      request_id: requestId,
      outcome,
      ms,
      ...fields,
    });
  }

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
    await (isSweep ? runSweep : deliver)(req, res, requestId);
  };
}

/** The key id for the limits of a secret. Key ids are ASCII, so no key has this id. */
function ownerOf({ fingerprint }: Signer): string {
  return `webhook·${fingerprint}`;
}

/**
 * GitHub sends a form with the JSON in `payload`, unless its hook says `application/json`; the signature is over the
 * form.
 */
function contentOf(body: Uint8Array, { headers }: IncomingMessage): Uint8Array {
  if (headers['x-github-event'] === undefined) return body;
  const [type] = (headers['content-type'] ?? '').split(';', 1);
  if (type?.trim().toLowerCase() !== 'application/x-www-form-urlencoded') return body;
  const payload = new URLSearchParams(Buffer.from(body).toString()).get('payload');
  return payload === null ? body : Buffer.from(payload);
}

function fromKey(caller: Caller, req: IncomingMessage): Omit<Delivery, 'body'> {
  return {
    source: `/webhook/key/${encodeURIComponent(caller.keyId)}`,
    deliveryId: header(req, 'webhook-id') ?? header(req, 'x-github-delivery'),
    eventHeader: header(req, 'x-github-event'),
  };
}

/**
 * Of the unsigned headers only GitHub's own are used, and only with GitHub's signature, which does not cover them. An
 * id is the same delivery under any of the secrets: they are replaced while deliveries are sent again.
 */
function fromSigner({ kind, fingerprint }: Signer, req: IncomingMessage): Omit<Delivery, 'body'> {
  const source = `/webhook/${kind}/${fingerprint}`;
  const idScope = `/webhook/${kind}`;
  if (kind === 'standard') return { source, idScope, deliveryId: header(req, 'webhook-id') };
  return { source, idScope, deliveryId: header(req, 'x-github-delivery'), eventHeader: header(req, 'x-github-event') };
}

function header(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function causeOf(error: RpcError): object {
  return error.cause === undefined || error.reason === 'unauthorized' ? {} : errorFields(error.cause);
}
