// The gateway side of a link: opens the link, resumes it after a lost connection, and moves it to a new WebSocket
// before Cloud Run ends the old one.
import type { WebSocket } from 'ws';
import { deadline, orAbort, pause } from '../../../async.ts';
import { RpcError } from '../../../errors.ts';
import { errorFields } from '../../../log.ts';
import { CLOSE } from '../../../protocol.ts';
import { createLink, LINK_TIMES, type LinkEnd } from '../create-link.ts';
import type { Link, LinkDeps, ReachedSandbox } from '../link.ts';
import { type ClientHello, fromSandbox, PROTOCOL, type ServerHello } from './hello.ts';
import { FailedAttempt, openSocket } from './open-socket.ts';

export interface ConnectLinkOptions extends LinkDeps {
  /** URL of the service: `https:`, or `http:` on loopback. LINK_PATH is appended. */
  readonly url: string;
  /**
   * Returns the headers of an attempt, with the credential. Called for each attempt, because the previous credential
   * may have expired.
   */
  readonly headers: (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;
  /** Deadline of the first connection, with all attempts. Default 10 s. */
  readonly connectMs?: number;
  /** Delay before the second attempt; doubled for each further one up to `retryMaxMs`. Defaults 100 ms and 2 s. */
  readonly retryMs?: number;
  readonly retryMaxMs?: number;
  /**
   * Age of a WebSocket at which the link moves to a new one. Default 50 min, because Cloud Run ends a WebSocket after
   * 60 min.
   */
  readonly handOverMs?: number;
  /**
   * Called when a hand-over has reached an instance of the service that does not have the link, because the platform
   * routes new connections to another one. The link continues over its old WebSocket.
   */
  readonly onElsewhere?: () => void;
  readonly signal?: AbortSignal;
}

/** The gateway's end of a link. */
export interface GatewayLink extends Link {
  readonly sandbox: ReachedSandbox;
}

/**
 * Opens a link. Rejects with RpcError `unavailable` if the service cannot be reached in time, refuses the credential,
 * has no protocol version in common with this side, or has too many links; with the reason of `signal` when it aborts.
 * A link that is over is not opened again (see `createLinkKeeper`).
 */
export async function connectLink(options: ConnectLinkOptions): Promise<GatewayLink> {
  const { connectMs = 10_000, signal, log } = options;
  const connector = new Connector(options);
  const limit = deadline(connectMs, signal);
  try {
    return await connector.first(limit);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    log.warn('sandbox service cannot be reached', errorFields(error));
    throw new RpcError('unavailable', {
      message: error instanceof FailedAttempt ? error.message : 'The sandbox service cannot be reached',
      cause: error,
    });
  }
}

/** Fraction of `handOverMs` after which a failed hand-over is tried again. */
const HAND_OVER_RETRY = 1 / 50;

interface OpenLink extends LinkEnd {
  readonly secret: string;
  readonly sandbox: ReachedSandbox;
}

class Connector {
  readonly #options: ConnectLinkOptions;
  readonly #retryMs: number;
  readonly #retryMaxMs: number;
  readonly #handOverMs: number;
  #open: OpenLink | undefined;
  /** Only one attempt runs at a time. If the connection is lost during a hand-over, the hand-over resumes the link. */
  #attempt: Promise<void> | undefined;
  #isResuming = false;
  #handOver: NodeJS.Timeout | undefined;

  constructor(options: ConnectLinkOptions) {
    this.#options = options;
    this.#retryMs = options.retryMs ?? 100;
    this.#retryMaxMs = options.retryMaxMs ?? 2_000;
    this.#handOverMs = options.handOverMs ?? 50 * 60_000;
  }

  async first(limit: AbortSignal): Promise<GatewayLink> {
    for (let delayMs = this.#retryMs; this.#open === undefined; delayMs = this.#longer(delayMs)) {
      try {
        await this.#connect(limit);
      } catch (error) {
        const isFinal =
          error instanceof FailedAttempt && (error.reason === 'credential' || error.reason === 'protocol');
        if (isFinal || limit.aborted) throw error;
        // The failure is more informative than the expired deadline, so it is thrown.
        await pause(spread(delayMs), limit).catch(() => Promise.reject(error));
      }
    }
    const { link, sandbox } = this.#open;
    return Object.assign(link, { sandbox });
  }

  /** After a lost connection: tries until it succeeds or the link is over. */
  async #resume({ link, channel }: LinkEnd): Promise<void> {
    if (this.#isResuming) return;
    this.#isResuming = true;
    for (let delayMs = this.#retryMs; !channel.connected && !link.over.aborted; delayMs = this.#longer(delayMs)) {
      try {
        await this.#connect(link.over);
      } catch (error) {
        const isLost = error instanceof FailedAttempt && error.reason === 'unknown_link';
        if (isLost && !channel.connected) void channel.end(error.message);
        await pause(spread(delayMs), link.over).catch(() => {});
      }
    }
    this.#isResuming = false;
  }

  #connect(signal: AbortSignal): Promise<void> {
    this.#attempt ??= this.#tryOnce(signal).finally(() => {
      this.#attempt = undefined;
    });
    return this.#attempt;
  }

  async #tryOnce(signal: AbortSignal): Promise<void> {
    const { url, headers, times } = this.#options;
    const timeoutMs = times?.handshakeMs ?? LINK_TIMES.handshakeMs;
    const limit = deadline(timeoutMs, signal);
    await openSocket({
      url,
      headers: await orAbort(headers(limit), limit),
      hello: () => this.#hello(),
      timeoutMs,
      signal: limit,
      onHello: (socket, hello) => this.#greeted(socket, hello),
    });
  }

  #hello(): ClientHello {
    if (this.#open === undefined) return { protocol: PROTOCOL };
    const { link, secret, channel } = this.#open;
    return { protocol: PROTOCOL, resume: { id: link.id, secret, received: channel.received } };
  }

  #greeted(socket: WebSocket, hello: ServerHello): void {
    const { id, secret, received } = hello.link;
    socket.on('error', () => {});
    if (this.#open === undefined) {
      const end = createLink(id, 'gateway', this.#options, () => void this.#resume(end));
      this.#open = { ...end, secret, sandbox: fromSandbox(hello) };
      end.link.over.addEventListener('abort', () => clearTimeout(this.#handOver), { once: true });
    }
    const { link, channel } = this.#open;
    if (link.over.aborted || link.id !== id || !channel.canResume(received)) {
      socket.close(CLOSE.policy);
      return;
    }
    channel.attach(socket, received);
    this.#handOverAfter(spread(this.#handOverMs), link);
  }

  #handOverAfter(delayMs: number, link: Link): void {
    clearTimeout(this.#handOver);
    this.#handOver = setTimeout(() => {
      this.#connect(link.over).catch((error: unknown) => {
        if (link.over.aborted) return;
        if (error instanceof FailedAttempt && error.reason === 'unknown_link') this.#options.onElsewhere?.();
        this.#handOverAfter(this.#handOverMs * HAND_OVER_RETRY, link);
      });
    }, delayMs);
  }

  #longer(delayMs: number): number {
    return Math.min(2 * delayMs, this.#retryMaxMs);
  }
}

/** Adds jitter, so that many processes do not connect at the same moment. */
function spread(delayMs: number): number {
  return delayMs * (0.8 + 0.2 * Math.random());
}
