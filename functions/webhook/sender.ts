// Authenticates the sender of a delivery, by an API key or by the signature of the body.
import type { IncomingMessage } from 'node:http';
import { hasKey } from '../../shared/auth/authenticate.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import type { Services } from '../../shared/services.ts';
import { EVENT_BODY_BYTES_MAX } from '../../shared/webhooks/interpret.ts';
import { createSignatureVerifier, type Signer } from '../../shared/webhooks/signatures.ts';
import { readBody } from '../server/http.ts';
import { type DeliveryFacts, fromKey, fromSigner } from './delivery.ts';

/**
 * An authenticated sender: the key that is charged (or the pseudo key of a secret), and the body or the error of
 * reading it.
 */
export interface Sender {
  readonly caller: Caller;
  readonly about: DeliveryFacts;
  readonly body: Uint8Array | RpcError;
}

/**
 * A key is checked before the body is read. A valid signature of the body is sufficient, also if the request has an
 * invalid key; if it is not valid, the key decides. The returned function throws CredentialError for an unknown sender.
 */
export function createSenderAuthentication(
  { config, wrongCredentials }: Pick<Services, 'config' | 'wrongCredentials'>,
  gateway: Pick<Gateway, 'authenticate'>,
): (req: IncomingMessage) => Promise<Sender> {
  const signatures = createSignatureVerifier(config.webhookSecrets);

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

  const bySignature = async (req: IncomingMessage): Promise<Sender> => {
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

  const byKey = async (req: IncomingMessage): Promise<Sender> => {
    const caller = await gateway.authenticate(req.headers, { client: req });
    const body = await readBody(req, EVENT_BODY_BYTES_MAX).catch(toRpcError);
    return { caller, about: fromKey(caller, req), body };
  };

  return (req) =>
    config.webhookSecrets.length > 0 && signatures.isSigned(req.headers) ? bySignature(req) : byKey(req);
}

/** The key id for the limits of a secret. Key ids are ASCII, so no key has this id. */
function ownerOf({ fingerprint }: Signer): string {
  return `webhook·${fingerprint}`;
}
