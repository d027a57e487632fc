// The connections of this instance to the companion service. Imports nothing but Node's own modules, because the
// jsonrpc function opens the first connection before it has loaded anything else.
import http, { type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import https from 'node:https';
import { PATHS } from '../protocol.ts';

const SOCKETS_MAX = 1_000;
const SOCKETS_IDLE_MAX = 64;
/** A service without instances starts one meanwhile. */
const WAKE_MS = 30_000;
const SENT_MS_MAX = 100;
/** The platform accepts a connection before it has an instance, so a slower connection is a fault of the network. */
const CONNECT_MS_MAX = 10_000;

export interface CompanionService {
  /** Sends a POST and resolves with the head of its answer. Rejects with the error of the connection. */
  post(path: string, headers: OutgoingHttpHeaders, body: Uint8Array, signal: AbortSignal): Promise<IncomingMessage>;
  /**
   * Has the service start an instance if it has none, and leaves an open connection. Resolves when the request has been
   * sent, or after a short time. Never rejects.
   */
  wake(): Promise<void>;
}

/** `url`: base URL of the service. */
export function openCompanionService(url: string, connectMsMax = CONNECT_MS_MAX): CompanionService {
  const isEncrypted = new URL(url).protocol === 'https:';
  const { request, Agent } = isEncrypted ? https : http;
  const connected = isEncrypted ? 'secureConnect' : 'connect';
  const agent = new Agent({ keepAlive: true, maxSockets: SOCKETS_MAX, maxFreeSockets: SOCKETS_IDLE_MAX });
  return {
    post: (path, headers, body, signal) =>
      new Promise((resolve, reject) => {
        const options = { method: 'POST', agent, headers: { ...headers, 'Content-Length': body.length }, signal };
        const outgoing = request(new URL(path, url), options, resolve).on('error', reject);
        limitConnect(outgoing, connected, connectMsMax);
        outgoing.end(body);
      }),
    wake() {
      const signal = AbortSignal.timeout(WAKE_MS);
      const options = { agent, signal };
      const outgoing = request(new URL(PATHS.health, url), options, (response) =>
        response.on('error', ignore).resume(),
      );
      return new Promise((resolve) => {
        outgoing.on('error', () => resolve()).end(() => resolve());
        setTimeout(resolve, SENT_MS_MAX).unref();
      });
    },
  };
}

/** Ends the request if its connection is new and not established in time; otherwise the kernel retries for minutes. */
function limitConnect(outgoing: ClientRequest, connected: 'connect' | 'secureConnect', timeoutMs: number): void {
  outgoing.once('socket', (socket) => {
    if (outgoing.reusedSocket) return;
    const expire = (): void => void outgoing.destroy(new Error('no connection to the companion in time'));
    const timer = setTimeout(expire, timeoutMs);
    const stop = (): void => clearTimeout(timer);
    socket.once(connected, stop);
    outgoing.once('close', stop);
  });
}

function ignore(): void {}
