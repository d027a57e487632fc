// Which web pages may call the gateway, by the exact origins of ALLOWED_ORIGINS, and the log line that an operator
// needs when one may not.
import type { Logger } from '../log.ts';

/** Refused names that are remembered; beyond them a last line is written, and no more. */
const NAMES_MAX = 200;
const NAME_CHARS_MAX = 200;

export interface Origins {
  /** Whether pages of this origin are listed. */
  has(origin: string): boolean;
  /** Logs, once per origin, that it was refused and which variable would allow it. */
  refused(origin: string): void;
  /**
   * Logs, once per name, that a request for another host was refused: a page may have pointed its own name at this
   * machine.
   */
  refusedHost(host: string): void;
}

export function createOrigins(allowed: ReadonlySet<string>, log: Logger): Origins {
  const seen = new Set<string>();

  function once(kind: 'origin' | 'host', name: string, hint: string): void {
    const text = name.slice(0, NAME_CHARS_MAX);
    const key = `${kind} ${text}`;
    if (seen.size > NAMES_MAX || seen.has(key)) return;
    seen.add(key);
    if (seen.size > NAMES_MAX) log.warn('more origins and hosts were refused; they are not logged any more');
    else log.warn(`${kind} refused`, { [kind]: text, hint });
  }

  return {
    has: (origin) => allowed.has(origin),
    refused: (origin) => once('origin', origin, 'to allow pages of this origin, add it to ALLOWED_ORIGINS'),
    refusedHost: (host) => once('host', host, 'HOST is a loopback address: set it to the name that callers use'),
  };
}
