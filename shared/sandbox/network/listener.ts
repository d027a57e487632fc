// Lets the gateway listen on a loopback port inside a sandbox. A short-lived program in the sandbox creates the
// listening socket and passes its descriptor to the gateway, which accepts the connections. This works because a socket
// stays in the network namespace in which it was created. The gateway cannot enter that namespace itself: that needs
// root, because no process of bwrap stays in the user namespace that owns it.
import type { SandboxSpec } from '../sandbox.ts';
import { useAllCores } from '../spawner/cores.ts';

/** Path of Node in the sandbox. */
const NODE = process.execPath.startsWith('/usr/') ? process.execPath : '/opt/node';

/**
 * Source of the listening program. It ends when the gateway has received the socket, or has ended. It must not contain
 * a single quote, because it is quoted for sh(1).
 */
const PROGRAM = (port: number): string =>
  'process.once("disconnect", () => process.exit());' +
  `const server = require("net").createServer().listen(${port}, "127.0.0.1", () => process.send("listening", server));`;

/** Adds what the listening program needs in the sandbox. */
export function withListener(spec: SandboxSpec): SandboxSpec {
  if (spec.listenPort === undefined) return spec;
  return { ...spec, readOnly: [...(spec.readOnly ?? []), { from: process.execPath, to: NODE }] };
}

/**
 * A line of sh(1) that starts the listening program in the background; `fd` is its channel to the gateway. It runs in a
 * subshell, so that it is no child of the command. It may also use the core that commands must leave free, because the
 * start of the command uses all other cores.
 */
export function toListenerLine(port: number, fd: number): string {
  const command = [...useAllCores(), NODE, '--max-semi-space-size=1', '-e', `'${PROGRAM(port)}'`].join(' ');
  return `(NODE_CHANNEL_FD=${fd} ${command} </dev/null >/dev/null 2>&1 &)`;
}
