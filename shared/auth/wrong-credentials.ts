// Guesses are bounded: a token bucket per client address for credentials that are wrong (keys, tickets, signatures, ID
// tokens). Beyond it such a request is answered 429 instead of 401; a valid credential is accepted all the same, since
// who shares an address with a guesser is not known. Also the log of refusals: a line per address and second at most,
// with how many they were.
import ipaddr from 'ipaddr.js';
import type { Clock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { createTokenBuckets } from '../token-buckets.ts';

/** Wrong credentials that an address may send at once, and how many more each second. */
const BURST = 40;
const PER_SECOND = 2;
/** Addresses remembered; the least recently seen is forgotten first and begins anew. */
const ADDRESSES_MAX = 10_000;
/** Addresses with a line of their own in one second; the others share one. */
const LOGGED_MAX = 100;
const OTHERS = 'others';
const LOG_EVERY_MS = 1_000;

/** Where a request comes from; node's IncomingMessage fits. */
export interface Client {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/** A refusal for its credential, which this module has logged. */
export class CredentialError extends RpcError {}

export interface WrongCredentials {
  /** Whether the address has used up its guesses: nothing expensive is done for one more. */
  isThrottled(client: Client): boolean;
  /**
   * Counts a wrong credential that was refused with `error`, and returns the error to answer: the same as 401, or 429.
   */
  refuse(client: Client, error: RpcError): CredentialError;
  /** Logs a request without a credential, which is not counted, and returns the error to answer. */
  absent(client: Client, error: RpcError): CredentialError;
  /** Runs a check of a credential; counts it when it fails as `unauthorized`. */
  check<T>(client: Client, work: () => T | Promise<T>): Promise<T>;
  /** Logs what was counted since the last lines. */
  flush(): void;
}

export interface WrongCredentialsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Behind Google's front end the address is in a header; elsewhere any client could write it there. */
  readonly isBehindFrontEnd: boolean;
}

export function createWrongCredentials(options: WrongCredentialsOptions): WrongCredentials {
  const { clock, isBehindFrontEnd } = options;
  const buckets = createTokenBuckets({ clock, burst: BURST, perSecond: PER_SECOND, keysMax: ADDRESSES_MAX });
  const lines = createLines(options.log);
  const addressOf = (client: Client): string => toAddress(client, isBehindFrontEnd);

  function refuse(client: Client, error: RpcError): CredentialError {
    const address = addressOf(client);
    if (buckets.take(address)) {
      lines.add(address, 'wrong');
      return toCredentialError(error);
    }
    lines.add(address, 'throttled');
    const retryAfterMs = buckets.waitMs(address);
    return new CredentialError('rate_limited', {
      message: 'Too Many Requests: too many wrong credentials came from this address',
      data: { limit: BURST, remaining: 0, reset: Math.ceil((clock.now() + retryAfterMs) / 1_000) },
      retryAfterMs,
    });
  }

  return {
    isThrottled: (client) => buckets.waitMs(addressOf(client)) > 0,
    refuse,
    absent(client, error) {
      lines.add(addressOf(client), 'absent');
      return toCredentialError(error);
    },
    async check(client, work) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof RpcError) || error.reason !== 'unauthorized') throw error;
        throw error instanceof CredentialError ? error : refuse(client, error);
      }
    },
    flush: lines.flush,
  };
}

function toCredentialError({ reason, message, data, cause }: RpcError): CredentialError {
  return new CredentialError(reason, { message, data, cause });
}

/**
 * The client's address; of IPv6 its /64, which one customer holds whole. Google's front end appends the address that it
 * sees to X-Forwarded-For, so the last entry is the only one that the client did not write.
 */
function toAddress({ headers, socket }: Client, isBehindFrontEnd: boolean): string {
  const forwarded = isBehindFrontEnd ? headers['x-forwarded-for'] : undefined;
  const text = forwarded === undefined ? socket.remoteAddress : String(forwarded).split(',').at(-1)?.trim();
  if (text === undefined || !ipaddr.isValid(text)) return 'unknown';
  const address = ipaddr.process(text);
  if (!(address instanceof ipaddr.IPv6)) return address.toString();
  return `${address.parts
    .slice(0, 4)
    .map((part) => part.toString(16))
    .join(':')}::/64`;
}

type Kind = 'absent' | 'wrong' | 'throttled';

/** The first refusal of an address is logged at once, what follows in the same second as one line at its end. */
function createLines(log: Logger): { add(address: string, kind: Kind): void; flush(): void } {
  let counted = new Map<string, Partial<Record<Kind, number>>>();
  let timer: NodeJS.Timeout | undefined;

  function add(address: string, kind: Kind): void {
    const name = counted.has(address) || counted.size < LOGGED_MAX ? address : OTHERS;
    const counts = counted.get(name);
    if (counts !== undefined) {
      counts[kind] = (counts[kind] ?? 0) + 1;
      return;
    }
    counted.set(name, {});
    write(name, { [kind]: 1 });
    timer ??= setInterval(flush, LOG_EVERY_MS).unref();
  }

  function write(client: string, counts: Partial<Record<Kind, number>>): void {
    const { absent = 0, wrong = 0, throttled = 0 } = counts;
    const count = absent + wrong + throttled;
    if (count > 0) log.warn('credentials refused', { client, count, ...counts });
  }

  function flush(): void {
    const before = counted;
    counted = new Map();
    for (const [client, counts] of before) {
      write(client, counts);
      // What was just written was of this second: the next line comes at the end of the next one.
      if (Object.keys(counts).length > 0) counted.set(client, {});
    }
    if (counted.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return { add, flush };
}
