// A port of the loopback inside on which the gateway listens. A short-lived program inside creates the listening socket
// and passes its descriptor to the gateway, which accepts the connections: a socket belongs to the network namespace in
// which it was created. From outside, only root could enter that namespace: bwrap keeps no process in the user namespace
// that owns it.
import type { SandboxSpec } from '../sandbox.ts';

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
 * Lines of sh(1) that start the program beside the one that is executed; `fd` is its channel to the gateway. In a shell
 * of its own, so that no process inside becomes its parent.
 */
export function toListenerLine(port: number, fd: number): string {
  return `(NODE_CHANNEL_FD=${fd} ${NODE} --max-semi-space-size=1 -e '${PROGRAM(port)}' </dev/null >/dev/null 2>&1 &)`;
}
