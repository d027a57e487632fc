// The connections of this instance to the companion service. Imports nothing but Node's own modules, because the
// jsonrpc function opens the first connection before it has loaded anything else.
import http, { type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import https from 'node:https';
import { PATHS } from '../protocol.ts';

const SOCKETS_MAX = 1_000;
const SOCKETS_IDLE_MAX = 64;
/** A service without instances starts one meanwhile. */
const WAKE_MS = 30_000;
const SENT_MS_MAX = 100;

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
export function openCompanionService(url: string): CompanionService {
  const { request, Agent } = new URL(url).protocol === 'https:' ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: SOCKETS_MAX, maxFreeSockets: SOCKETS_IDLE_MAX });
  return {
    post: (path, headers, body, signal) =>
      new Promise((resolve, reject) => {
        const options = { method: 'POST', agent, headers: { ...headers, 'Content-Length': body.length }, signal };
        request(new URL(path, url), options, resolve).on('error', reject).end(body);
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

function ignore(): void {}
