// Single-use tickets authenticate the WebSocket of a browser, which cannot set headers. The store holds the hash of a
// ticket, and the key's digest encrypted with the ticket, so that a reader of the store cannot use either.
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { WallClock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import { type DocumentOf, defineDocument } from '../store/define-document.ts';
import type { Ref, Store } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { Caller } from './keys/keys.ts';

/** Lifetime of a ticket, milliseconds. */
export const TICKET_MS = 30_000;
/** Maximum tolerated clock skew between instances. */
const AHEAD_MS_MAX = 5 * 60_000;
/** 256 random bits, base64url: legal in a Sec-WebSocket-Protocol header. */
const TICKET = /^[\w-]{43}$/;
const STORE_TIMEOUT_MS = 5_000;

export const Tickets = defineDocument({
  collection: 'tickets',
  schema: z.object({
    /** SHA-256 digest of the key, XORed with a pad derived from the ticket; base64url. */
    sealed_digest: z.string(),
    /** Absent in tickets of older versions. */
    expires_at_ms: z.number().exactOptional(),
    /** Key id; as above. */
    owner: z.string().exactOptional(),
  }),
  owned: { orderBy: 'expires_at_ms' },
  secret: ['sealed_digest'],
  id: 'hash of the ticket',
  holds: 'single-use WebSocket tickets',
  writtenBy: '`auth.ticket`',
  kept: '30 s, or until used',
});
type TicketDocument = DocumentOf<typeof Tickets>;

export interface Ticket {
  readonly ticket: string;
  readonly expiresAtMs: number;
}

type Deps = { readonly store: Store; readonly clock: WallClock };

/**
 * Creates a ticket for the key of `caller`. Throws RpcError `unavailable` when the store cannot be reached, Error for a
 * caller without a key.
 */
export async function issueTicket({ store, clock }: Deps, caller: Caller, signal?: AbortSignal): Promise<Ticket> {
  if (caller.digest === undefined) throw new Error('a ticket needs a caller with a key');
  const ticket = randomBytes(32).toString('base64url');
  const expiresAtMs = clock.now() + TICKET_MS;
  const data = {
    sealed_digest: Buffer.from(xor(caller.digest, padOf(ticket))).toString('base64url'),
    expires_at_ms: expiresAtMs,
    owner: caller.keyId,
  };
  await store.commit([Tickets.write(refOf(ticket), data, { expireAtMs: expiresAtMs, if: 'absent' })], {
    timeoutMs: STORE_TIMEOUT_MS,
    ...(signal && { signal }),
  });
  return { ticket, expiresAtMs };
}

/**
 * Deletes a ticket and returns the digest of its key; exactly one instance succeeds. Throws RpcError `unauthorized` for
 * a ticket that is unknown, used or expired, `unavailable` when the store does not answer (the ticket may be deleted;
 * the client must request another one).
 */
export async function redeemTicket({ store, clock }: Deps, ticket: string, signal?: AbortSignal): Promise<Uint8Array> {
  const ref = TICKET.test(ticket) ? refOf(ticket) : undefined;
  const found = ref && (await take(store, ref, signal));
  // A longer remaining lifetime was written by an instance with a wrong clock.
  if (found === undefined || (found.expires_at_ms ?? 0) > clock.now() + TICKET_MS + AHEAD_MS_MAX) {
    throw new RpcError('unauthorized', { message: 'Unauthorized: the ticket is unknown, used or expired' });
  }
  const { sealed_digest } = found;
  return xor(Buffer.from(sealed_digest, 'base64url'), padOf(ticket));
}

async function take(store: Store, ref: Ref, signal: AbortSignal | undefined): Promise<TicketDocument | undefined> {
  const { result } = await transact(
    store,
    [ref],
    ([snapshot]) => {
      const found = Tickets.read(snapshot);
      // The delete requires the version that was read: if two instances redeem a ticket, one conflicts and reads again.
      return { writes: found === undefined ? [] : [{ ref, delete: true }], result: found };
    },
    { timeoutMs: STORE_TIMEOUT_MS, ...(signal && { signal }) },
  );
  return result;
}

function refOf(ticket: string): Ref {
  return Tickets.ref(createHash('sha256').update(ticket).digest('base64url'));
}

/** A one-time pad, because each ticket encrypts one digest. It is another hash than the document id. */
function padOf(ticket: string): Uint8Array {
  return createHash('sha256').update(`seal:${ticket}`).digest();
}

function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, index) => byte ^ (b[index] ?? 0));
}
