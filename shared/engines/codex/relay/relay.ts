// Sends the requests of Codex to its provider, with the credential of the turn. A caller may control Codex. So a
// request needs the token of a running turn, is limited to two paths of the Responses API and to the model of the turn,
// and never determines the provider or the account. Connections to the providers are reused, because Codex creates a
// new HTTP client for every turn.
import {
  type ClientRequest,
  type IncomingMessage,
  Agent as PlainAgent,
  type ProxyEnv,
  request as plainRequest,
} from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { pipeline } from 'node:stream';
import type { ProviderAnswer, ProviderHeaders, ProviderRequest } from '../../../codex-host/codex-host.ts';
import { joinUrl } from '../../../net/base-url.ts';
import type { ProviderId } from './account.ts';
import { modelIn } from './body-model.ts';
import { readUsage } from './counted-usage.ts';
import type { RunningTurn, RunningTurns } from './running-turns.ts';

export interface Relay {
  /** Answers one request; `turns` are those of the app-server that has sent it. */
  forward(request: ProviderRequest, answer: ProviderAnswer, turns: RunningTurns): void;
  /** Closes the connections to the providers. */
  close(): void;
}

/** Status of the relay's own answer if the provider has not answered. Codex retries, as after any 5xx. */
export const UNREACHABLE = 599;
/** As UNREACHABLE, if the provider may have received the request. */
export const LOST = 598;
const UNSENT: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
/**
 * Status of the relay's answer if the provider has sent a web page or JSON as a success; the body is the provider's.
 * Codex would report only that the stream has ended.
 */
export const NOT_A_STREAM = 496;
/** One for each turn that may run. */
const SOCKETS_MAX = 256;
/** Maximum time without bytes from a provider; a little longer than Codex itself waits for the next event. */
const SILENCE_MS = 130_000;
/** Maximum bytes of one request, and of all requests that are being read or sent. */
const BODY_BYTES_MAX = 32 << 20;
const BODIES_BYTES_MAX = 256 << 20;
/** Not sent to Codex: they concern one connection (RFC 9110, 7.6.1), or would be a credential inside Codex. */
const NOT_RETURNED: ReadonlySet<string> = new Set([
  ...['connection', 'keep-alive', 'proxy-authenticate', 'proxy-connection', 'te', 'trailer', 'transfer-encoding'],
  ...['upgrade', 'set-cookie', 'www-authenticate'],
]);
/**
 * The headers of Codex that are sent on: about Codex itself, the conversation and the form of the answer. Others are
 * dropped, because some name an account or its rights (`x-openai-account-routing-override`).
 */
const TAKEN = new RegExp(
  '^(?:accept|user-agent|originator|version|openai-beta|(?:session|conversation|thread)[-_]id|x-client-request-id|' +
    'x-codex-[\\w-]+|x-openai-internal-codex-responses-lite|x-openai-subagent)$',
);
const STREAM_PATH = '/responses';
const PATHS: ReadonlySet<string> = new Set([STREAM_PATH, '/responses/compact']);

/** `baseUrls`: of the Responses API, without `/responses`. */
export function createRelay(baseUrls: Readonly<Record<ProviderId, string>>, proxyEnv?: ProxyEnv | undefined): Relay {
  const options = { ...(proxyEnv && { proxyEnv }), keepAlive: true, maxSockets: SOCKETS_MAX, timeout: SILENCE_MS };
  const plain = { request: plainRequest, agent: new PlainAgent(options) };
  const secure = { request: secureRequest, agent: new SecureAgent(options) };
  let bodiesBytes = 0;

  return {
    forward(request, answer, turns) {
      answer.body.on('error', () => {});
      void check(request, answer, turns).catch(() => answer.body.destroy());
    },
    close() {
      plain.agent.destroy();
      secure.agent.destroy();
    },
  };

  async function check(request: ProviderRequest, answer: ProviderAnswer, turns: RunningTurns): Promise<void> {
    const { method, path, headers } = request;
    if (method !== 'POST' || !PATHS.has(path)) return refuse(answer, 404);
    const turn = turns.find(bearerOf(headers));
    if (turn === undefined) return refuse(answer, 401);
    const done = turn.admit();
    if (done === undefined) return refuse(answer, 429);
    let ownBytes = 0;
    const hasRoom = (bytes: number): boolean => {
      ownBytes += bytes;
      bodiesBytes += bytes;
      return ownBytes <= BODY_BYTES_MAX && bodiesBytes <= BODIES_BYTES_MAX;
    };
    try {
      const body = await readBody(request, hasRoom);
      if (body === undefined) return refuse(answer, ownBytes > BODY_BYTES_MAX ? 413 : 503);
      // The turn may have ended while the body arrived.
      if (turn.over.aborted) return refuse(answer, 401);
      const model = modelIn(body);
      if (model === undefined || !turn.modelIds.includes(model)) return refuse(answer, 403);
      await send({ path, headers, body, turn }, answer);
    } finally {
      bodiesBytes -= ownBytes;
      done();
    }
  }

  /**
   * Resolves when the answer is over. The end of one side ends the other one: a cancelled turn ends the provider's
   * work, and a cut answer arrives cut.
   */
  async function send({ path, headers, body, turn }: Call, answer: ProviderAnswer): Promise<void> {
    const url = new URL(joinUrl(baseUrls[turn.account.provider], path));
    const { request, agent } = url.protocol === 'http:' ? plain : secure;
    const taken = Object.entries(headers).filter(([name]) => TAKEN.test(name));
    const sent: ClientRequest = request(url, {
      method: 'POST',
      agent,
      headers: {
        ...Object.fromEntries(taken.map(([name, values]) => [name, [...values]])),
        'content-type': 'application/json',
        'content-length': body.byteLength,
        ...turn.account.headers(),
      },
      timeout: SILENCE_MS,
    });
    const { promise: closed, resolve: close } = Promise.withResolvers<void>();
    const end = (): void => {
      sent.destroy();
      answer.body.destroy();
    };
    let isAnswered = false;
    sent.on('response', (got) => {
      isAnswered = true;
      const { statusCode = 502 } = got;
      answer.writeHead(path === STREAM_PATH && isDocument(got) ? NOT_A_STREAM : statusCode, toReturned(got));
      pipeline(got, readUsage(turn.charge), turn.commands.pass(), answer.body, () => {});
    });
    sent.on('timeout', () => sent.destroy(new Error('the provider is silent')));
    sent.on('error', (error) => {
      if (isAnswered) answer.body.destroy();
      else refuse(answer, 'code' in error && UNSENT.has(error.code) ? UNREACHABLE : LOST);
    });
    answer.body.on('close', () => {
      if (!answer.body.writableFinished) sent.destroy();
      close();
    });
    turn.over.addEventListener('abort', end, { once: true });
    sent.end(body);
    await closed;
    turn.over.removeEventListener('abort', end);
  }
}

interface Call {
  readonly path: string;
  readonly headers: ProviderHeaders;
  readonly body: Buffer;
  readonly turn: RunningTurn;
}

/** What is left of the request is not read: its connection ends with the answer. */
function refuse(answer: ProviderAnswer, status: number): void {
  answer.writeHead(status, { connection: ['close'], 'content-length': ['0'] });
  answer.body.end();
}

function bearerOf({ authorization = [] }: ProviderHeaders): string {
  const [value = '', ...others] = authorization;
  return others.length === 0 && value.startsWith('Bearer ') ? value.slice('Bearer '.length) : '';
}

/** Undefined when there is no room for it. */
async function readBody({ body }: ProviderRequest, hasRoom: (bytes: number) => boolean): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  // A destroyed body would take its connection with it, before the answer is sent.
  for await (const chunk of body.iterator({ destroyOnReturn: false })) {
    const bytes = Buffer.from(chunk);
    if (!hasRoom(bytes.byteLength)) return undefined;
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

/** Whether a success has a body that cannot hold events. */
function isDocument({ statusCode = 0, headers }: IncomingMessage): boolean {
  return statusCode < 300 && /^\s*(?:text\/html|application\/json)\b/i.test(headers['content-type'] ?? '');
}

function toReturned(message: IncomingMessage): ProviderHeaders {
  const named = (message.headers.connection ?? '').toLowerCase().split(/\s*,\s*/);
  return Object.fromEntries(
    Object.entries(message.headersDistinct).flatMap(([name, values]) =>
      values === undefined || NOT_RETURNED.has(name) || named.includes(name) ? [] : [[name, values]],
    ),
  );
}
