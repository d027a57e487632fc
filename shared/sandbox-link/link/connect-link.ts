// The gateway side of a link: opens it, resumes it after a cut, and moves it to a new WebSocket before the platform ends
// the old one.
import type { Link, LinkDeps, SandboxFacts } from './link.ts';

export interface ConnectLinkOptions extends LinkDeps {
  /** The service, `https:`; `http:` on loopback. LINK_PATH is appended. */
  readonly url: string;
  /** Headers of each attempt, with the credential, which may have expired since the last one. */
  readonly headers: (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;
  /** How long the first connection may take, with all attempts. Default 10 s. */
  readonly connectMs?: number;
  /** Delay before the second attempt; doubled for each further one up to `retryMaxMs`. Defaults 100 ms and 2 s. */
  readonly retryMs?: number;
  readonly retryMaxMs?: number;
  /** Age of a WebSocket at which the link moves to a new one. Default 50 min: Cloud Run ends one after 60. */
  readonly handOverMs?: number;
  readonly signal?: AbortSignal;
}

/** The gateway's end of a link. */
export interface GatewayLink extends Link {
  readonly sandbox: SandboxFacts;
}

/**
 * Opens a link. Rejects with RpcError `unavailable` when the service is not reached in time, refuses the credential, has
 * no version of the protocol in common with this side, or is full. A link that is over is not opened again: see
 * `createLinkKeeper`.
 */
export async function connectLink(_options: ConnectLinkOptions): Promise<GatewayLink> {
  throw new Error('not implemented');
}
