// Reads the sender, the delivery id and the event name of a request from its credential and its headers.
import type { IncomingMessage } from 'node:http';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import type { Delivery } from '../../shared/webhooks/interpret.ts';
import type { Signer } from '../../shared/webhooks/signatures.ts';

export type DeliveryFacts = Omit<Delivery, 'body'>;

export function fromKey(caller: Caller, req: IncomingMessage): DeliveryFacts {
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
export function fromSigner({ kind, fingerprint }: Signer, req: IncomingMessage): DeliveryFacts {
  const source = `/webhook/${kind}/${fingerprint}`;
  const idScope = `/webhook/${kind}`;
  if (kind === 'standard') return { source, idScope, deliveryId: header(req, 'webhook-id') };
  return { source, idScope, deliveryId: header(req, 'x-github-delivery'), eventHeader: header(req, 'x-github-event') };
}

/**
 * The JSON of the delivery. GitHub sends a form with the JSON in `payload`, unless its hook is configured for
 * `application/json`; the signature is over the form.
 */
export function contentOf(body: Uint8Array, { headers }: IncomingMessage): Uint8Array {
  if (headers['x-github-event'] === undefined) return body;
  const [type] = (headers['content-type'] ?? '').split(';', 1);
  if (type?.trim().toLowerCase() !== 'application/x-www-form-urlencoded') return body;
  const payload = new URLSearchParams(Buffer.from(body).toString()).get('payload');
  return payload === null ? body : Buffer.from(payload);
}

function header(req: IncomingMessage, name: string): string | undefined {
  const value = req.headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
