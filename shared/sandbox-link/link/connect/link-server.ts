// The sandbox side of links: accepts WebSockets on an existing HTTP server, opens links, and resumes a link for a
// client that has its secret.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { bounded } from '../../../async.ts';
import { randomIds } from '../../../clock.ts';
import { errorFields } from '../../../log.ts';
import { CLOSE } from '../../../protocol.ts';
import { createLink, LINK_TIMES, type LinkEnd } from '../create-link.ts';
import { LINK_PATH, type Link, type LinkDeps, type SandboxFacts } from '../link.ts';
import {
  type ClientHello,
  clientHello,
  commonVersion,
  helloText,
  PROTOCOL,
  type Refusal,
  readFirst,
  refusedText,
  SOCKET_OPTIONS,
  toSandbox,
} from './hello.ts';

const LINKS_MAX = 256;
const HANDSHAKES_MAX = 256;

export interface LinkServerOptions extends LinkDeps {
  /**
   * Whether the request has a valid credential. If not, the response is 401, before any message of the WebSocket is
   * read. If the promise rejects, it is 503.
   */
  readonly authorize: (request: IncomingMessage, signal: AbortSignal) => Promise<boolean>;
  readonly sandbox: SandboxFacts;
  /** Called with each new link, before its first message is handled. */
  readonly onLink?: (link: Link) => void;
  /** Maximum number of links, including those that wait to be resumed. Default 256; further ones are refused. */
  readonly linksMax?: number;
}

export interface LinkServer {
  /** Listener for the event `upgrade` of a node:http server. Responds 404 for other paths than LINK_PATH. */
  handleUpgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void;
  /** The links that are not over. */
  readonly links: ReadonlySet<Link>;
  /** Refuses further WebSockets and ends every link. */
  close(reason?: string): Promise<void>;
}

interface KnownLink extends LinkEnd {
  readonly secretDigest: Buffer;
}

export function createLinkServer(options: LinkServerOptions): LinkServer {
  const { authorize, sandbox, log, linksMax = LINKS_MAX } = options;
  const handshakeMs = options.times?.handshakeMs ?? LINK_TIMES.handshakeMs;
  const known = new Map<string, KnownLink>();
  const links = new Set<Link>();
  const sockets = new WebSocketServer({ ...SOCKET_OPTIONS, noServer: true, clientTracking: false });
  sockets.on('wsClientError', (_error, stream) => refuse(stream, 400));
  let handshakes = 0;
  let isClosed = false;

  async function upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): Promise<number | undefined> {
    if (request.url?.split('?')[0] !== LINK_PATH) return 404;
    if (isClosed || handshakes >= HANDSHAKES_MAX) return 503;
    handshakes++;
    try {
      const isAllowed = await bounded({ timeoutMs: handshakeMs }, ({ signal }) => authorize(request, signal));
      if (!isAllowed) return 401;
    } catch (error) {
      log.warn('sandbox link not authorized', errorFields(error));
      return 503;
    } finally {
      handshakes--;
    }
    if (isClosed) return 503;
    if (stream.writable) sockets.handleUpgrade(request, stream, head, accept);
    return undefined;
  }

  function accept(socket: WebSocket): void {
    // After an invalid frame, ws closes the socket itself.
    socket.on('error', ignore);
    readFirst(socket, handshakeMs, (message) => {
      const hello = clientHello.safeParse(message);
      if (hello.success) greet(socket, hello.data.params);
      else socket.close(CLOSE.policy, 'the first message is malformed');
    });
  }

  function greet(socket: WebSocket, { protocol, resume }: ClientHello): void {
    const deny = (reason: Refusal['reason'], message: string): void => {
      socket.send(refusedText(reason, message));
      socket.close(CLOSE.policy, reason);
    };
    const version = commonVersion(protocol);
    if (version === undefined) {
      return void deny('protocol', `the sandbox supports versions ${PROTOCOL.min} to ${PROTOCOL.max} of the link`);
    }
    const secret = resume?.secret ?? randomBytes(32).toString('base64url');
    const end = resume === undefined ? open(secret) : find(resume);
    if (end === undefined) {
      return void (resume === undefined
        ? deny('full', `the sandbox serves at most ${linksMax} links`)
        : deny('unknown_link', 'the sandbox does not have this link'));
    }
    const { link, channel } = end;
    const hello = { protocol: PROTOCOL, version, sandbox: toSandbox(sandbox) };
    socket.send(helloText({ ...hello, link: { id: link.id, secret, received: channel.received } }));
    channel.attach(socket, resume?.received ?? 0);
  }

  function open(secret: string): KnownLink | undefined {
    if (isClosed || known.size >= linksMax) return undefined;
    const id = randomIds.next('link');
    const end = { ...createLink(id, 'sandbox', options, ignore), secretDigest: digest(secret) };
    known.set(id, end);
    links.add(end.link);
    end.link.over.addEventListener('abort', () => known.delete(id) && links.delete(end.link), { once: true });
    options.onLink?.(end.link);
    return end;
  }

  function find({ id, secret, received }: NonNullable<ClientHello['resume']>): KnownLink | undefined {
    const end = known.get(id);
    if (end === undefined || !timingSafeEqual(end.secretDigest, digest(secret))) return undefined;
    return end.channel.canResume(received) ? end : undefined;
  }

  return {
    handleUpgrade(request, stream, head) {
      stream.on('error', ignore);
      void upgrade(request, stream, head).then((status) => status !== undefined && refuse(stream, status));
    },
    links,
    async close(reason = 'the sandbox shuts down') {
      isClosed = true;
      await Promise.all([...links].map((link) => link.close(reason)));
    },
  };
}

function refuse(stream: Duplex, status: number): void {
  stream.once('finish', () => stream.destroy());
  stream.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function digest(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

function ignore(): void {}
