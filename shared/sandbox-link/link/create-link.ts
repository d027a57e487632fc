// Creates one end of a link from its parts: channel, streams and calls.
import { CLOSE } from '../../protocol.ts';
import { Calls } from './calls.ts';
import { Channel } from './channel.ts';
import type { Link, LinkDeps, LinkTimes } from './link.ts';
import { Streams } from './streams/streams.ts';

export const LINK_TIMES: LinkTimes = {
  pingMs: 5_000,
  silenceMs: 15_000,
  overMs: 35_000,
  tickMs: 1_000,
  handshakeMs: 5_000,
};

export interface LinkEnd {
  readonly link: Link;
  readonly channel: Channel;
}

/** `onCut` is called when the WebSocket was closed and the link is not over. */
export function createLink(id: string, side: 'gateway' | 'sandbox', deps: LinkDeps, onCut: () => void): LinkEnd {
  const over = new AbortController();
  const channel = new Channel(
    {
      control: (message) => {
        if (!streams.control(message)) calls.control(message, link);
      },
      data: (stream, payload) => streams.data(stream, payload),
      writable: () => streams.pump(),
      cut: onCut,
      over: (error) => {
        deps.log.notice('sandbox link over', { link: id, reason: error.message });
        calls.end(error);
        streams.end(error);
        over.abort(error);
      },
    },
    { ...LINK_TIMES, ...deps.times },
  );
  const streams = new Streams(channel, side);
  const calls = new Calls({ channel, handlers: deps.handlers, log: deps.log });
  let usedMs = performance.now();
  const link: Link = {
    id,
    get connected() {
      return channel.connected;
    },
    get silentMs() {
      return channel.silentMs;
    },
    get idleMs() {
      const nowMs = performance.now();
      if (calls.size + streams.size > 0) usedMs = nowMs;
      return nowMs - usedMs;
    },
    over: over.signal,
    request(method, params, signal) {
      usedMs = performance.now();
      return calls.request(method, params, signal);
    },
    notify: (method, params) => calls.notify(method, params),
    openStream: () => streams.open(),
    takeStream: (stream) => streams.take(stream),
    close: (reason = 'closed') => channel.end(reason, CLOSE.normal),
  };
  return { link, channel };
}
