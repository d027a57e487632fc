// Which addresses a request of a caller may reach: globally routable ones. Everything inside (loopback, private,
// link-local with the metadata server, carrier NAT, documentation, multicast) and every way to write an inside address
// as an outside one is not.
import ipaddr from 'ipaddr.js';

/** The whole of IPv6 that is handed out as global unicast. */
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Whether a literal IPv4 or IPv6 address is globally routable (IANA special-purpose registries, as ipaddr.js knows
 * them). IPv4-mapped addresses are judged as the IPv4 address they are; other embeddings (6to4, Teredo, NAT64) are
 * refused, since a gateway may unpack them.
 */
export function isGloballyRoutable(literal: string): boolean {
  if (!ipaddr.isValid(literal)) return false;
  const address = ipaddr.process(literal);
  if (address.range() !== 'unicast') return false;
  return address instanceof ipaddr.IPv4 || address.match(GLOBAL_V6);
}

/**
 * The address in a URL's hostname, without brackets; undefined when it is a name. WHATWG URL has made decimal, octal
 * and hex forms plain.
 */
export function literalOf(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return ipaddr.isValid(bare) ? bare : undefined;
}
