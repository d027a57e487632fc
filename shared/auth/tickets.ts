// Single-use tickets: how a browser, which cannot set headers on a WebSocket, proves its key. Stored is only the hash
// of a ticket; the key's digest beside it is sealed with the ticket itself, so that the document says nothing to who
// reads the store.
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { WallClock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import { type DocumentOf, defineDocument } from '../store/define-document.ts';
import type { Ref, Store } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { Caller } from './keys/keys.ts';

/** Time a browser has from getting a ticket to opening its socket. */
export const TICKET_MS = 30_000;
/** How far clocks that are fairly right differ at most. */
const AHEAD_MS_MAX = 5 * 60_000;
/** 256 random bits, base64url: legal in a Sec-WebSocket-Protocol header. */
const TICKET = /^[\w-]{43}$/;
const STORE_TIMEOUT_MS = 5_000;

export const Tickets = defineDocument({
  collection: 'tickets',
  schema: z.object({
    /** SHA-256 digest of the key, XORed with a pad that only the ticket yields; base64url. */
    sealed_digest: z.string(),
    /** Absent in tickets of older versions. */
    expires_at_ms: z.number().exactOptional(),
  }),
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
 * Makes a ticket for the key behind `caller`. Throws RpcError `unavailable` when the store cannot be reached, Error for
 * a caller that was not recognised by a key.
 */
export async function issueTicket({ store, clock }: Deps, caller: Caller, signal?: AbortSignal): Promise<Ticket> {
  if (caller.digest === undefined) throw new Error('a ticket needs a caller with a key');
  const ticket = randomBytes(32).toString('base64url');
  const expiresAtMs = clock.now() + TICKET_MS;
  const data = {
    sealed_digest: Buffer.from(xor(caller.digest, padOf(ticket))).toString('base64url'),
    expires_at_ms: expiresAtMs,
  };
  await store.commit([Tickets.write(refOf(ticket), data, { expireAtMs: expiresAtMs, if: 'absent' })], {
    timeoutMs: STORE_TIMEOUT_MS,
    ...(signal && { signal }),
  });
  return { ticket, expiresAtMs };
}

/**
 * Uses a ticket up and answers the digest of its key; exactly one instance gets it. Throws RpcError `unauthorized` for
 * a ticket that is unknown, used or expired, `unavailable` when the store does not answer (the ticket may be used up:
 * get another).
 */
export async function redeemTicket({ store, clock }: Deps, ticket: string, signal?: AbortSignal): Promise<Uint8Array> {
  const ref = TICKET.test(ticket) ? refOf(ticket) : undefined;
  const found = ref && (await take(store, ref, signal));
  // One that would be valid for much longer than any ticket was issued by a wrong clock.
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
      // The version read is the delete's precondition: of two instances with one ticket, one loses and reads again.
      return { writes: found === undefined ? [] : [{ ref, delete: true }], result: found };
    },
    { timeoutMs: STORE_TIMEOUT_MS, ...(signal && { signal }) },
  );
  return result;
}

function refOf(ticket: string): Ref {
  return Tickets.ref(createHash('sha256').update(ticket).digest('base64url'));
}

/** Never used twice, since no ticket is: a one-time pad. Another hash than the document's id. */
function padOf(ticket: string): Uint8Array {
  return createHash('sha256').update(`seal:${ticket}`).digest();
}

function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, index) => byte ^ (b[index] ?? 0));
}
