// HTTP relay on loopback between the app-servers and the providers. Codex creates a new HTTP client for every turn,
// which would read all certificates of the machine and make a new TLS handshake each time; the relay keeps the
// connections to the providers. It forwards the Responses API of the configured providers and nothing else, byte for
// byte, and adds no credentials, so that access to it is useless.
import {
  createServer,
  type IncomingMessage,
  Agent as PlainAgent,
  type ProxyEnv,
  request as plainRequest,
  type ServerResponse,
} from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { pipeline } from 'node:stream';
import { joinUrl } from '../../../net/base-url.ts';
import type { ProviderId } from './config-toml.ts';

export interface Relay {
  /** The base URLs that app-servers get instead of the providers'. */
  readonly baseUrls: Readonly<Record<ProviderId, string>>;
  close(): Promise<void>;
}

/** Status of the relay's own answer when the provider gave none. Codex retries, as after any 5xx. */
export const UNREACHABLE = 599;
/** As UNREACHABLE, where the provider may have got the request. */
export const LOST = 598;
const UNSENT: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
/**
 * In the place of a success whose body is a web page or JSON: Codex would say of it only that the stream had ended. Its
 * body is the provider's.
 */
export const NOT_A_STREAM = 496;
/** One for each turn that may run. */
const SOCKETS_MAX = 256;
/** The longest silence of a provider; a little longer than Codex itself waits for the next event. */
const SILENCE_MS = 130_000;
/** Not forwarded: they concern one connection (RFC 9110, 7.6.1). */
const OF_THE_CONNECTION = [
  'connection',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];
const STREAM_PATH = '/responses';
const PATH = /^\/(gateway|chatgpt)(\/responses(?:\/compact)?)$/;

/** `baseUrls`: of the Responses API, without `/responses`. Listens on 127.0.0.1, on a port of its own. */
export async function startRelay(baseUrls: Relay['baseUrls'], proxyEnv?: ProxyEnv | undefined): Promise<Relay> {
  const options = { ...(proxyEnv && { proxyEnv }), keepAlive: true, maxSockets: SOCKETS_MAX, timeout: SILENCE_MS };
  const plain = { request: plainRequest, agent: new PlainAgent(options) };
  const secure = { request: secureRequest, agent: new SecureAgent(options) };

  const server = createServer((incoming, answer) => {
    const [, provider, path] = PATH.exec(incoming.url ?? '') ?? [];
    if (incoming.method !== 'POST' || path === undefined || (provider !== 'gateway' && provider !== 'chatgpt')) {
      answer.writeHead(404).end();
      return;
    }
    forward(new URL(joinUrl(baseUrls[provider], path)), incoming, answer, path === STREAM_PATH);
  });
  server.maxConnections = SOCKETS_MAX;
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(0, '127.0.0.1', resolve);
  await listening;
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const url = `http://127.0.0.1:${port}`;

  return {
    baseUrls: { gateway: `${url}/gateway`, chatgpt: `${url}/chatgpt` },
    close() {
      plain.agent.destroy();
      secure.agent.destroy();
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      return closed;
    },
  };

  /**
   * The end of one side ends the other one: a cancelled turn ends the provider's work, and a cut answer arrives cut.
   */
  function forward(url: URL, incoming: IncomingMessage, answer: ServerResponse, isStream: boolean): void {
    const { request, agent } = url.protocol === 'http:' ? plain : secure;
    const headers = { ...withoutConnection(incoming), host: url.host };
    const sent = request(url, { method: 'POST', agent, headers, timeout: SILENCE_MS }, (got) => {
      const { statusCode = 502 } = got;
      answer.writeHead(isStream && isDocument(got) ? NOT_A_STREAM : statusCode, withoutConnection(got));
      // The first event may come much later.
      answer.flushHeaders();
      pipeline(got, answer, () => {});
    });
    sent.on('timeout', () => sent.destroy(new Error('the provider is silent')));
    sent.on('error', (error) => {
      if (answer.headersSent) answer.destroy();
      else answer.writeHead('code' in error && UNSENT.has(error.code) ? UNREACHABLE : LOST).end();
    });
    answer.on('close', () => {
      if (!answer.writableFinished) sent.destroy();
    });
    incoming.on('error', () => sent.destroy());
    incoming.pipe(sent);
  }
}

/** Whether a success has a body that cannot hold events. */
function isDocument({ statusCode = 0, headers }: IncomingMessage): boolean {
  return statusCode < 300 && /^\s*(?:text\/html|application\/json)\b/i.test(headers['content-type'] ?? '');
}

function withoutConnection(message: IncomingMessage): Record<string, string[]> {
  const named = (message.headers.connection ?? '').toLowerCase().split(/\s*,\s*/);
  return Object.fromEntries(
    Object.entries(message.headersDistinct).flatMap(([name, values]) =>
      values === undefined || OF_THE_CONNECTION.includes(name) || named.includes(name) ? [] : [[name, values]],
    ),
  );
}
