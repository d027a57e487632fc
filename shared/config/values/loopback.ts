// Recognises values of HOST that only this machine can reach.
import { isIPv4 } from 'node:net';

/** A host name or an address without brackets: all of 127.0.0.0/8 is loopback. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase();
  return name === 'localhost' || name === '::1' || (isIPv4(name) && name.startsWith('127.'));
}
