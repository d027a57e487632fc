// The methods that cost no call, so that the page does not count them down. A test compares them with the registry.
import { METHODS } from '../../../shared/protocol.ts';

export const FREE_METHODS: ReadonlySet<string> = new Set([
  METHODS.terminalInput,
  METHODS.terminalResize,
  METHODS.limits,
  METHODS.discover,
]);
