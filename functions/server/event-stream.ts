// Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html): one stream of notifications,
// ended by the ordinary response. `notify` resolves when the socket can accept more, so that a slow reader slows the
// source.
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { MethodContext } from '../../shared/methods/define-method.ts';
import { escapeLineEnds } from '../../shared/rpc/json/line-ends.ts';
import { aroundShared, notificationText } from '../../shared/rpc/notification.ts';
import { onHalfClose } from './half-close.ts';
import { endWith, taken } from './slow-reader.ts';

/** Proxies cut streams that are silent for longer; comments keep them open. */
const KEEP_ALIVE_MS = 15_000;
/** Bytes waiting in the socket above which the source is paused. */
const PAUSE_BYTES = 256 << 10;

export interface EventStream {
  readonly started: boolean;
  readonly notify: MethodContext['notify'];
  readonly notifyShared: NonNullable<MethodContext['notifyShared']>;
  /** Response headers, sent with the first event. */
  headers: OutgoingHttpHeaders;
  start(headers?: OutgoingHttpHeaders): void;
  /** Sends the response (or all of a batch), JSON text, as the last event and ends the stream. */
  end(text: string | undefined): void;
  /** Leaves the response to another writer; nothing has been sent. */
  discard(): void;
}

export function openEventStream(res: ServerResponse): EventStream {
  let keepAlive: NodeJS.Timeout | undefined;

  const start = (headers: OutgoingHttpHeaders = stream.headers): void => {
    if (stream.started || res.headersSent || res.destroyed) return;
    stream.started = true;
    clearTimeout(silent);
    res.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      // `no-transform`: a proxy that compressed the stream would hold it back until its end.
      'Cache-Control': 'no-store, no-transform',
      'X-Accel-Buffering': 'no',
      'X-Content-Type-Options': 'nosniff',
      ...headers,
    });
    const writeComment = (): void => {
      res.write(': keep-alive\n\n');
    };
    keepAlive = setInterval(writeComment, KEEP_ALIVE_MS);
    onHalfClose(res, writeComment);
    res.once('close', () => clearInterval(keepAlive));
  };
  // Sends the headers and keep-alive comments without an event, because a prompt may wait in a queue for a long time.
  const silent = setTimeout(() => {
    start();
    res.flushHeaders();
  }, KEEP_ALIVE_MS);
  res.once('close', () => clearTimeout(silent));

  const stream: EventStream & { started: boolean } = {
    started: false,
    headers: {},
    start,
    notify(method, params, eventId) {
      if (res.destroyed || res.writableEnded) return;
      start();
      res.write(`${idLine(eventId)}${toData(notificationText(method, params))}`);
      return res.writableLength > PAUSE_BYTES ? taken(res) : undefined;
    },
    notifyShared(method, params, shared, eventId) {
      if (res.destroyed || res.writableEnded) return;
      start();
      const { head, tail } = aroundShared(method, params);
      res.cork();
      res.write(`${idLine(eventId)}data: ${head}`);
      // The shared buffer without a copy: it is the same for all readers of the event.
      res.write(shared.bytes);
      res.write(`${tail}\n\n`);
      res.uncork();
      return res.writableLength > PAUSE_BYTES ? taken(res) : undefined;
    },
    end(text) {
      if (res.destroyed || res.writableEnded) return;
      clearInterval(keepAlive);
      if (text === undefined) res.end();
      else void endWith(res, toData(text));
    },
    discard: () => clearTimeout(silent),
  };
  return stream;
}

function idLine(eventId: string | undefined): string {
  return eventId === undefined ? '' : `id: ${eventId}\n`;
}

/** One event of JSON. */
function toData(json: string): string {
  return `data: ${escapeLineEnds(json)}\n\n`;
}
