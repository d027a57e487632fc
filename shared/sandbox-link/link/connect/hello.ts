// The first messages of a WebSocket. The client sends its protocol versions and the link that it resumes; the server
// sends facts about itself and the link, or a refusal. Also contains the options of the WebSockets of both sides.
import type { ServerOptions, WebSocket } from 'ws';
import { z } from 'zod';
import { CONTROL_BYTES_MAX, type ReachedSandbox, type SandboxFacts } from '../link.ts';
import { LINK_METHODS, parseJson } from '../wire.ts';

/** The protocol versions that this build supports, inclusive. */
export const PROTOCOL = { min: 1, max: 1 };

const range = z.object({ min: z.int().min(1), max: z.int().min(1) });
const name = z.string().min(1).max(200);
const count = z.int().min(0);

export const clientHello = z.object({
  method: z.literal(LINK_METHODS.hello),
  params: z.object({
    protocol: range,
    /** `received`: how many messages this side has received. */
    resume: z.object({ id: name, secret: name, received: count }).optional(),
  }),
});

export const serverHello = z.discriminatedUnion('method', [
  z.object({
    method: z.literal(LINK_METHODS.hello),
    params: z.object({
      protocol: range,
      /** The protocol version that both sides use. */
      version: z.int(),
      sandbox: z.object({ boot_id: name, started_at_ms: count, codex_version: name.optional() }),
      link: z.object({ id: name, secret: name, received: count }),
    }),
  }),
  z.object({
    method: z.literal(LINK_METHODS.refused),
    params: z.object({ reason: z.enum(['protocol', 'unknown_link', 'full']), message: z.string().max(500) }),
  }),
]);

export type ClientHello = z.infer<typeof clientHello>['params'];
export type ServerHello = Extract<z.infer<typeof serverHello>, { method: 'link.hello' }>['params'];
export type Refusal = Extract<z.infer<typeof serverHello>, { method: 'link.refused' }>['params'];

/** Returns the highest version that both sides support. */
export function commonVersion(peer: { readonly min: number; readonly max: number }): number | undefined {
  const version = Math.min(peer.max, PROTOCOL.max);
  return version >= Math.max(peer.min, PROTOCOL.min) ? version : undefined;
}

export function helloText(params: ClientHello | ServerHello): string {
  return JSON.stringify({ jsonrpc: '2.0', method: LINK_METHODS.hello, params });
}

export function refusedText(reason: Refusal['reason'], message: string): string {
  return JSON.stringify({ jsonrpc: '2.0', method: LINK_METHODS.refused, params: { reason, message } });
}

export function toSandbox({ bootId, startedAtMs, codexVersion }: SandboxFacts): ServerHello['sandbox'] {
  return { boot_id: bootId, started_at_ms: startedAtMs, ...(codexVersion && { codex_version: codexVersion }) };
}

export function fromSandbox({ sandbox, protocol }: ServerHello): ReachedSandbox {
  const { boot_id: bootId, started_at_ms: startedAtMs, codex_version: codexVersion } = sandbox;
  return { bootId, startedAtMs, protocol, ...(codexVersion !== undefined && { codexVersion }) };
}

/** How long to wait for the close frame of the peer. */
const CLOSE_MS = 5_000;
const FRAGMENTS_MAX = 16;

// Declared with a wider type, because the types of the library lack two of its options.
export const SOCKET_OPTIONS: ServerOptions & { readonly maxFragments: number; readonly closeTimeout: number } = {
  perMessageDeflate: false,
  maxPayload: CONTROL_BYTES_MAX,
  maxFragments: FRAGMENTS_MAX,
  closeTimeout: CLOSE_MS,
};

/**
 * Calls `onFirst` once with the first message, before the next one is emitted. Ends the WebSocket if no message arrives
 * in time.
 */
export function readFirst(socket: WebSocket, timeoutMs: number, onFirst: (message: unknown) => void): void {
  const timer = setTimeout(() => socket.terminate(), timeoutMs);
  socket.once('close', () => clearTimeout(timer));
  socket.once('message', (data: Buffer, isBinary: boolean) => {
    clearTimeout(timer);
    onFirst(isBinary ? undefined : parseJson(data));
  });
}
