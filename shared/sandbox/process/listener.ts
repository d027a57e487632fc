// A port of the loopback inside on which the gateway listens. A short-lived program inside creates the listening socket
// and passes its descriptor to the gateway, which accepts the connections: a socket belongs to the network namespace in
// which it was created. From outside, only root could enter that namespace: bwrap keeps no process in the user
// namespace that owns it.
import type { SandboxSpec } from '../sandbox.ts';
import { useAllCores } from './cores.ts';

/** Node's path inside, for the program. */
const NODE = process.execPath.startsWith('/usr/') ? process.execPath : '/opt/node';

/** Ends when the gateway has the socket, or has ended. Contains no single quote. */
const PROGRAM = (port: number): string =>
  'process.once("disconnect", () => process.exit());' +
  `const server = require("net").createServer().listen(${port}, "127.0.0.1", () => process.send("listening", server));`;

/** With what the program needs to run inside. */
export function withListener(spec: SandboxSpec): SandboxSpec {
  if (spec.listenPort === undefined) return spec;
  return { ...spec, readOnly: [...(spec.readOnly ?? []), { from: process.execPath, to: NODE }] };
}

/**
 * A line of sh(1) that starts the program beside the one that is executed; `fd` is its channel to the gateway. In a
 * shell of its own, so that no process inside becomes its parent. On the core that is kept free as well: the start of
 * the other program takes all of the others.
 */
export function toListenerLine(port: number, fd: number): string {
  const command = [...useAllCores(), NODE, '--max-semi-space-size=1', '-e', `'${PROGRAM(port)}'`].join(' ');
  return `(NODE_CHANNEL_FD=${fd} ${command} </dev/null >/dev/null 2>&1 &)`;
}
