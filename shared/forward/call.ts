// The messages between the jsonrpc function and the companion: one call, with its caller's identity and the rate
// decision already made. Accepted only with an ID token of the function's own service account.
import { z } from 'zod';
import type { Caller } from '../auth/keys/keys.ts';
import { SCOPES } from '../config/values/key-document.ts';
import { RpcError } from '../errors.ts';
import type { MethodContext } from '../methods/define-method.ts';

/** Header with caller, request id and metadata of the call; the body is the JSON-RPC request. */
export const CALL_HEADER = 'x-gateway-call';
/** The answer: one JSON-RPC message a line, notifications before the response; empty lines keep the connection open. */
export const CALL_CONTENT_TYPE = 'application/x-ndjson';
const HEADER_CHARS_MAX = 12_288;

/** Unknown members are ignored, because function and companion are not updated at the same time. */
const CallFacts = z.object({
  request_id: z.string().min(1).max(64),
  transport: z.enum(['http', 'sse']),
  key_id: z.string().min(1).max(128),
  scopes: z.array(z.enum(SCOPES)),
  limits: z.array(z.object({ max: z.int().positive(), window_ms: z.int().positive() })),
  /** Digest of the key, base64url; absent if the caller has no key. */
  digest: z.string().max(64).optional(),
  idempotency_key: z.string().max(1_024).optional(),
  last_event_id: z.string().max(1_024).optional(),
  socket_url: z.string().max(2_048).optional(),
});

/** The values of a forwarded call in addition to its JSON-RPC request. */
export type ForwardedFacts = Pick<MethodContext, 'caller' | 'requestId' | 'requestMetadata'> & {
  readonly transport: 'http' | 'sse';
};

export function encodeFacts({ caller, requestId, requestMetadata, transport }: ForwardedFacts): string {
  const facts: z.input<typeof CallFacts> = {
    request_id: requestId,
    transport,
    key_id: caller.keyId,
    scopes: [...caller.scopes],
    limits: caller.limits.map(({ max, windowMs }) => ({ max, window_ms: windowMs })),
    ...(caller.digest && { digest: Buffer.from(caller.digest).toString('base64url') }),
    ...(requestMetadata.idempotencyKey !== undefined && {
      idempotency_key: requestMetadata.idempotencyKey.slice(0, 1_024),
    }),
    ...(requestMetadata.lastEventId !== undefined && { last_event_id: requestMetadata.lastEventId.slice(0, 1_024) }),
    ...(requestMetadata.socketUrl !== undefined && { socket_url: requestMetadata.socketUrl }),
  };
  return Buffer.from(JSON.stringify(facts)).toString('base64url');
}

/** Decodes the header of `encodeFacts`. Throws RpcError `invalid_request` for any other text. */
export function decodeFacts(header: string | string[] | undefined): ForwardedFacts {
  try {
    if (typeof header !== 'string' || header.length > HEADER_CHARS_MAX) throw new Error('missing or too long');
    const facts = CallFacts.parse(JSON.parse(Buffer.from(header, 'base64url').toString('utf8')));
    const caller: Caller = {
      keyId: facts.key_id,
      scopes: new Set(facts.scopes),
      limits: facts.limits.map(({ max, window_ms }) => ({ max, windowMs: window_ms })),
      ...(facts.digest !== undefined && { digest: Buffer.from(facts.digest, 'base64url') }),
    };
    const requestMetadata = {
      ...(facts.idempotency_key !== undefined && { idempotencyKey: facts.idempotency_key }),
      ...(facts.last_event_id !== undefined && { lastEventId: facts.last_event_id }),
      ...(facts.socket_url !== undefined && { socketUrl: facts.socket_url }),
    };
    return { caller, requestId: facts.request_id, requestMetadata, transport: facts.transport };
  } catch (error) {
    throw new RpcError('invalid_request', { message: 'not a forwarded call', cause: error });
  }
}
