// The sandbox side of links: accepts WebSockets on an existing HTTP server, opens links, and resumes those whose secret
// the client has.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Link, LinkDeps, SandboxFacts } from './link.ts';

export interface LinkServerOptions extends LinkDeps {
  /**
   * Whether the request carries a valid credential; it is answered 401 otherwise, before anything of the WebSocket is
   * read. A rejection is answered 503.
   */
  readonly authorize: (request: IncomingMessage, signal: AbortSignal) => Promise<boolean>;
  readonly sandbox: SandboxFacts;
  /** Called with each new link, before its first message is handled. */
  readonly onLink?: (link: Link) => void;
  /** Links at a time, those that wait to be resumed included. Default 256; more are refused. */
  readonly linksMax?: number;
}

export interface LinkServer {
  /** A listener for `upgrade` of a node:http server. Answers 404 for another path than LINK_PATH. */
  handleUpgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void;
  /** Links that are not over. */
  readonly links: ReadonlySet<Link>;
  /** Refuses further WebSockets and ends every link. */
  close(reason?: string): Promise<void>;
}

export function createLinkServer(_options: LinkServerOptions): LinkServer {
  throw new Error('not implemented');
}
