// Webhook signatures, verified over the raw bytes: Standard Webhooks (id, time and body signed, +-300 s) and GitHub's
// X-Hub-Signature-256 (the body only: its delivery id and event name are not signed).
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { RpcError } from '../errors.ts';

/** Headers in the form of node:http. */
export type SignatureHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** A verified sender: the kind of signature, and the fingerprint of its secret. */
export interface Signer {
  readonly kind: 'standard' | 'github';
  /** First 12 hex digits of the secret's SHA-256: identifies the secret without revealing it. */
  readonly fingerprint: string;
}

export interface SignatureVerifier {
  /** Whether the headers contain a signature; does not verify it. */
  isSigned(headers: SignatureHeaders): boolean;
  /**
   * Returns the signer of a body. Throws RpcError `unauthorized` when the signature matches no configured secret or its
   * timestamp is outside the tolerance.
   */
  verify(headers: SignatureHeaders, body: Uint8Array): Signer;
}

/**
 * The signed text is `id.timestamp.body`. The id must not contain a full stop, because the parts would be ambiguous.
 */
const DELIVERY_ID = /^[^.\s]{1,256}$/;
const SECONDS = /^\d{1,12}$/;
const HUB_SIGNATURE = /^sha256=([0-9a-f]{64})$/i;

/**
 * Secrets `whsec_<base64>` and `github:<text>`, several of each, tried in order, so that during a rotation the old and
 * the new one are valid. Throws an Error with the position, never the value, of an invalid secret.
 */
export function createSignatureVerifier(secrets: readonly string[]): SignatureVerifier {
  const standard: { readonly webhook: Webhook; readonly fingerprint: string }[] = [];
  const github: { readonly secret: string; readonly fingerprint: string }[] = [];
  secrets.forEach((text, index) => {
    const fingerprint = createHash('sha256').update(text).digest('hex').slice(0, 12);
    if (text.startsWith('github:') && text.length > 'github:'.length) {
      github.push({ secret: text.slice('github:'.length), fingerprint });
    } else standard.push({ webhook: openStandard(text, index), fingerprint });
  });

  const verifyStandard = (headers: SignatureHeaders, body: Uint8Array): Signer => {
    const signed = {
      'webhook-id': single(headers['webhook-id'], DELIVERY_ID),
      'webhook-timestamp': single(headers['webhook-timestamp'], SECONDS),
      'webhook-signature': single(headers['webhook-signature'], /^/),
    };
    // The library verifies text, so a body that is not UTF-8 has no valid signature.
    const payload = Buffer.from(body).toString('utf8');
    for (const { webhook, fingerprint } of standard) {
      try {
        webhook.verify(payload, signed, { jsonParse: false });
        return { kind: 'standard', fingerprint };
      } catch (error) {
        if (!(error instanceof WebhookVerificationError)) throw error;
      }
    }
    throw refused('the webhook signature is not valid, its timestamp is more than 300 s off, or the body is not UTF-8');
  };

  const verifyGithub = (headers: SignatureHeaders, body: Uint8Array): Signer => {
    const given = HUB_SIGNATURE.exec(single(headers['x-hub-signature-256'], HUB_SIGNATURE))?.[1] ?? '';
    for (const { secret, fingerprint } of github) {
      const expected = createHmac('sha256', secret).update(body).digest();
      if (timingSafeEqual(expected, Buffer.from(given, 'hex'))) return { kind: 'github', fingerprint };
    }
    throw refused('the X-Hub-Signature-256 is not valid');
  };

  return {
    isSigned: (headers) => headers['webhook-signature'] !== undefined || headers['x-hub-signature-256'] !== undefined,
    verify(headers, body) {
      if (headers['webhook-signature'] === undefined) return verifyGithub(headers, body);
      if (headers['x-hub-signature-256'] === undefined) return verifyStandard(headers, body);
      // A request signed by one of the two schemes may also have the header of the other one.
      try {
        return verifyStandard(headers, body);
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        return verifyGithub(headers, body);
      }
    },
  };
}

function openStandard(secret: string, index: number): Webhook {
  if (secret.startsWith('whsec_')) {
    try {
      return new Webhook(secret);
    } catch {
      // The library's message is not used, because it may quote the secret.
    }
  }
  throw new Error(`webhook secret ${index + 1} must be whsec_<base64> or github:<text>`);
}

function single(header: string | string[] | undefined, shape: RegExp): string {
  if (typeof header !== 'string' || !shape.test(header)) throw refused('a signature header is missing or malformed');
  return header;
}

function refused(message: string): RpcError {
  return new RpcError('unauthorized', { message: `Unauthorized: ${message}` });
}
