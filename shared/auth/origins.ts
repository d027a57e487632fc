// Decides which web pages may call the gateway (exact origins of ALLOWED_ORIGINS), and logs refused origins for the
// operator.
import type { Logger } from '../log.ts';

/** Most refused names that are logged; one more is logged as a last line without its name. */
const NAMES_MAX = 200;
const NAME_CHARS_MAX = 200;

export interface Origins {
  /** Whether pages of this origin are listed. */
  has(origin: string): boolean;
  /** Logs a refused origin once, with the variable that allows it. */
  refused(origin: string): void;
  /** Logs a refused Host header once: a web page may have pointed its own domain at this machine (DNS rebinding). */
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
