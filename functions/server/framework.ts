// Runs a handler under the standard functions-framework CLI (5.0.5). The framework owns the process, the command line,
// the port and the choice of the function. But requests do not reach its express app, which would decompress and parse
// up to 1 GiB of body before authentication, respond to invalid JSON in HTML, and drop requests in flight on SIGTERM.
// Supports only the signature type `http`.

import http, { type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { settledWithin } from '../../shared/async.ts';
import type { Origins } from '../../shared/auth/origins.ts';
import { RpcError } from '../../shared/errors.ts';
import { errorFields, type Logger } from '../../shared/log.ts';
import type { Tracer } from '../../shared/telemetry/tracer.ts';
import { type HttpHandler, requestIdOf, sendJson } from './http.ts';
import { createHttpServer } from './node-server.ts';
import { createRequestGuard } from './request-guard.ts';

export interface HardenOptions {
  /** Receives every request from node:http, before its body is read. */
  readonly handler: HttpHandler;
  readonly log: Logger;
  /** The web origins whose pages may call the function. */
  readonly origins: Origins;
  readonly tracer?: Tracer | undefined;
  /** Ends work without a request (turns whose client has disconnected) within `graceMs`. */
  readonly finish?: (graceMs: number) => Promise<void>;
  /** Closes connections to other services after the last request, within one second. */
  readonly close?: () => Promise<void>;
  /** How long requests in flight may run after SIGTERM. Cloud Run kills the process after 10 s. Default 8000. */
  readonly drainTimeoutMs?: number;
  /** Address to listen on. Default: every interface, like the framework. */
  readonly host?: string | undefined;
}

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const DRAIN_TIMEOUT_MS = 8000;
/**
 * The part of the drain that is reserved for `finish`, and the part of that in which interrupted turns can still be
 * stored.
 */
const FINISH_MS_MIN = 2000;
const FINISH_MARGIN_MS = 1000;
const CLOSE_TIMEOUT_MS = 1000;
const IDLE_CHECK_MS = 25;

/**
 * Must be called while the CLI loads the function's module. The CLI then calls `http.createServer(app)` once. This
 * function replaces `http.createServer` for that call, so that it returns a server that calls `handler`; `app` is not
 * used.
 */
export function hardenFramework(options: HardenOptions): void {
  const { createServer } = http;
  // The types declare the functions of node:http as read-only, but at run time they can be replaced.
  Reflect.set(http, 'createServer', () => {
    Reflect.set(http, 'createServer', createServer);
    return createHardenedServer(options, process);
  });
}

/** Creates the server. When it listens, it replaces the framework's listeners of signals by its own. */
function createHardenedServer(options: HardenOptions, signals: NodeJS.Process): Server {
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
  const { host, origins, tracer } = options;
  const server = createHttpServer(listener, { guard: createRequestGuard({ host, origins }), tracer });
  if (host !== undefined) {
    const listen = server.listen.bind(server);
    Reflect.set(server, 'listen', (port: number, listening: () => void) => listen(port, host, listening));
  }
  server.once('listening', () => {
    const address = server.address();
    log.info('function listens', { port: typeof address === 'object' ? address?.port : address });
    // The framework registers its signal listeners in its own callback of `listening`, which runs after this one.
    process.nextTick(() => {
      // The framework ends the process, with every request in flight, for any unhandled rejection. The Google SDKs
      // cause them when the metadata server returns no token. So they are logged here, and the instance continues.
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
  const startedMs = performance.now();
  // server.close() closes connections that are idle now, not those that become idle when their response ends.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const failed = (error: unknown): void => log.error('the drain failed', errorFields(error));
  // Requests in flight come first, because `finish` may reject what they still have to do. `finish` gets the remaining
  // time.
  const leftMs = (): number => Math.max(0, drainTimeoutMs - (performance.now() - startedMs));
  await settledWithin(leftMs() - FINISH_MS_MIN, closed);
  const finished = finish?.(Math.max(0, leftMs() - FINISH_MARGIN_MS)).catch(failed);
  const inTime = await settledWithin(leftMs(), Promise.all([closed, finished]));
  clearInterval(idle);
  server.closeAllConnections();
  if (close !== undefined) await settledWithin(CLOSE_TIMEOUT_MS, close().catch(failed));
  log.log(inTime ? 'INFO' : 'WARNING', inTime ? 'drained' : 'drain gave up on requests in flight', {
    signal,
    duration_ms: Math.round(performance.now() - startedMs),
  });
}

/** Responds for a handler that has thrown: an internal error in JSON, without details. */
function fail(error: unknown, req: IncomingMessage, res: ServerResponse, log: Logger): void {
  const requestId = requestIdOf(req);
  log.error('a request handler failed', { request_id: requestId, ...errorFields(error) });
  if (res.headersSent) res.destroy();
  else sendJson(res, 500, { jsonrpc: '2.0', error: new RpcError('internal').toWire(requestId), id: null });
}
