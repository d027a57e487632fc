// Checks that a request of a caller reaches only globally routable addresses. Internal addresses (loopback, private,
// link-local with the metadata server, carrier NAT, documentation, multicast) are refused in every notation.
import ipaddr from 'ipaddr.js';

/** The whole range of IPv6 that is allocated as global unicast. */
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Whether a literal IPv4 or IPv6 address is globally routable (IANA special-purpose registries, as in ipaddr.js). An
 * IPv4-mapped address is checked as its IPv4 address; other embeddings (6to4, Teredo, NAT64) are refused, because a
 * router may forward them to the embedded address.
 */
export function isGloballyRoutable(literal: string): boolean {
  if (!ipaddr.isValid(literal)) return false;
  const address = ipaddr.process(literal);
  if (address.range() !== 'unicast') return false;
  return address instanceof ipaddr.IPv4 || address.match(GLOBAL_V6);
}

/**
 * The address in a URL's hostname, without brackets; undefined when it is a name. The WHATWG URL parser has already
 * normalized decimal, octal and hex forms.
 */
export function literalOf(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  return ipaddr.isValid(bare) ? bare : undefined;
}
