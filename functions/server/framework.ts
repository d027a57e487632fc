// Hosting under the stock functions-framework CLI (5.0.5). The framework keeps the process, its command line, the port
// and the choice of the target; the requests themselves never reach its express app, which would inflate and parse up
// to 1 GiB of body before the caller is authenticated, answer bad JSON in HTML, and drop what is in flight on SIGTERM.
// Signature type `http` only.

import http, { type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { settledWithin } from '../../shared/async.ts';
import type { Origins } from '../../shared/auth/origins.ts';
import { RpcError } from '../../shared/errors.ts';
import { errorFields, type Logger } from '../../shared/log.ts';
import { type HttpHandler, requestIdOf, sendJson } from './http.ts';
import { createHttpServer } from './node-server.ts';
import { createRequestGuard } from './request-guard.ts';

export interface HardenOptions {
  /** Receives every request from node:http; its body is not read yet. */
  readonly handler: HttpHandler;
  readonly log: Logger;
  /** The web origins whose pages may call. */
  readonly origins: Origins;
  /** Ends within `graceMs` the work that runs without a request (turns whose client has disconnected). */
  readonly finish?: (graceMs: number) => Promise<void>;
  /** Closes connections to other services after the last request; has one second. */
  readonly close?: () => Promise<void>;
  /** Milliseconds for requests in flight after SIGTERM; Cloud Run kills the process after 10 s. Default 8000. */
  readonly drainTimeoutMs?: number;
  /** Address to listen on; default: every interface, as the framework does. */
  readonly host?: string | undefined;
}

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const DRAIN_TIMEOUT_MS = 8000;
/** Requests in flight leave this much of the drain to `finish`; what it interrupts then still has to be written. */
const FINISH_MS_MIN = 2000;
const FINISH_MARGIN_MS = 1000;
const CLOSE_TIMEOUT_MS = 1000;
const IDLE_CHECK_MS = 25;

/**
 * To be called while the CLI loads the function's module. The CLI then calls `http.createServer(app)`, once: that call
 * is answered with a server of ours around `handler`, and `app` is left aside.
 */
export function hardenFramework(options: HardenOptions): void {
  const { createServer } = http;
  // The types declare functions of node:http read-only; at run time they are properties like any other.
  Reflect.set(http, 'createServer', () => {
    Reflect.set(http, 'createServer', createServer);
    return createHardenedServer(options, process);
  });
}

/** The server itself. Takes the signals over when it listens, after the framework has registered its own listeners. */
export function createHardenedServer(options: HardenOptions, signals: NodeJS.Process): Server {
  const { log } = options;
  const drain = { started: false };
  const inFlight = new Set<ServerResponse>();
  const listener: RequestListener = (req, res) => {
    inFlight.add(res);
    res.once('close', () => inFlight.delete(res));
    if (drain.started) res.setHeader('Connection', 'close');
    try {
      const done = options.handler(req, res);
      if (done instanceof Promise) done.catch((error: unknown) => fail(error, req, res, log));
    } catch (error) {
      fail(error, req, res, log);
    }
  };
  const { host, origins } = options;
  const server = createHttpServer(listener, { guard: createRequestGuard({ host, origins }) });
  if (host !== undefined) {
    const listen = server.listen.bind(server);
    Reflect.set(server, 'listen', (port: number, listening: () => void) => listen(port, host, listening));
  }
  server.once('listening', () => {
    const address = server.address();
    log.info('function listens', { port: typeof address === 'object' ? address?.port : address });
    // The framework's own listening callback, where it registers its signal listeners, runs after this one.
    process.nextTick(() => {
      // The framework ends the process for any unhandled rejection, and every request in flight with it. The
      // Google SDKs leave such promises behind when the metadata server fails to give them a token, so here it is
      // reported and the instance continues.
      signals.removeAllListeners('unhandledRejection');
      signals.on('unhandledRejection', (error) => {
        log.error('a rejection was not handled', errorFields(error));
      });
      for (const signal of SIGNALS) {
        signals.removeAllListeners(signal);
        signals.on(signal, () => {
          if (drain.started) return;
          drain.started = true;
          for (const res of inFlight) if (!res.headersSent) res.setHeader('Connection', 'close');
          void drainServer(server, options, signal).then(() => {
            log.flush();
            signals.exit(0);
          });
        });
      }
    });
  });
  return server;
}

/**
 * Stops accepting connections, waits for requests in flight, closes keep-alive connections when they become idle. Never
 * rejects.
 */
async function drainServer(server: Server, options: HardenOptions, signal: string): Promise<void> {
  const { log, finish, close, drainTimeoutMs = DRAIN_TIMEOUT_MS } = options;
  const beganMs = performance.now();
  // server.close() closes connections that are idle now, not those that become idle when their response ends.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const failed = (error: unknown): void => log.error('the drain could not settle everything', errorFields(error));
  // Requests come first: settling may refuse what they still want to do. Only what is left of the time goes to the
  // rest.
  const leftMs = (): number => Math.max(0, drainTimeoutMs - (performance.now() - beganMs));
  await settledWithin(leftMs() - FINISH_MS_MIN, closed);
  const finished = finish?.(Math.max(0, leftMs() - FINISH_MARGIN_MS)).catch(failed);
  const inTime = await settledWithin(leftMs(), Promise.all([closed, finished]));
  clearInterval(idle);
  server.closeAllConnections();
  if (close !== undefined) await settledWithin(CLOSE_TIMEOUT_MS, close().catch(failed));
  log.log(inTime ? 'INFO' : 'WARNING', inTime ? 'drained' : 'drain gave up on requests in flight', {
    signal,
    duration_ms: Math.round(performance.now() - beganMs),
  });
}

/** A handler that failed outside its own error handling: masked, JSON, never a stack. */
function fail(error: unknown, req: IncomingMessage, res: ServerResponse, log: Logger): void {
  const requestId = requestIdOf(req);
  log.error('a request handler failed', { request_id: requestId, ...errorFields(error) });
  if (res.headersSent) res.destroy();
  else sendJson(res, 500, { jsonrpc: '2.0', error: new RpcError('internal').toWire(requestId), id: null });
}
