// The requests that make a gateway hold the most memory, several at once, and what comes of them. For a process with
// little memory, as a test (it survives and answers) and as a bench (how much it takes, and how soon others are
// answered meanwhile).
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

const MIB = 1 << 20;
export const KEY = 'dev-key';

export interface Mix {
  readonly name: string;
  /** How many answers there were of each HTTP status, or of each error code within a batch. */
  readonly outcomes: Readonly<Record<string, number>>;
}

export interface MixSizes {
  readonly url: string;
  /** Messages of 1 MB in the session. */
  readonly messages: number;
  /** Requests at once of each mix. */
  readonly requests: number;
  /** SSE requests of 50 subscriptions each. */
  readonly streams: number;
}

const agent = new Agent({ maxSockets: 500 });
const call = (method: string, params: object, id = 1): object => ({ jsonrpc: '2.0', id, method, params });

/** Sends a body and resolves with the status and the whole answer. */
async function post(url: string, body: string, headers: object = {}): Promise<{ status: number; text: string }> {
  const sent = request(`${url}/jsonrpc`, { method: 'POST', agent, headers: { 'x-api-key': KEY, ...headers } }).end(
    body,
  );
  const [response] = await once(sent, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode, text: Buffer.concat(chunks).toString() };
}

function count(outcomes: readonly (string | number)[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** The answers of a batch: `ok`, or the error's code; one status where the whole of it was refused. */
async function postBatch(url: string, calls: readonly object[]): Promise<(string | number)[]> {
  const { status, text } = await post(url, JSON.stringify(calls));
  if (text.length > 8 * MIB) throw new Error(`an answer of ${text.length} characters`);
  const answers: unknown = JSON.parse(text);
  if (!Array.isArray(answers)) return [status];
  if (answers.length !== calls.length) throw new Error(`${answers.length} answers to ${calls.length} calls`);
  return answers.map(({ error }) => error?.code ?? 'ok');
}

const times = <T>(n: number, make: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: n }, (_, index) => make(index)));

/** A session of messages of 1 MB each. */
export async function fillSession({ url, messages }: MixSizes): Promise<void> {
  for (let n = 0; n < messages; n++) {
    const { status } = await post(
      url,
      JSON.stringify(call('conversation.prompt', { prompt: 'm'.repeat(1_000_000), session_id: 'big' })),
    );
    if (status !== 200) throw new Error(`the session could not be made: ${status}`);
  }
}

/** What a backend may answer: text that grows sixfold as JSON, and JSON that grows thirtyfold in memory. */
const ANSWERS = {
  '/controls': { type: 'text/plain', body: Buffer.alloc(5 * MIB, 1) },
  '/objects': { type: 'application/json', body: Buffer.from(`[${'{},'.repeat(600_000)}{}]`) },
} as const;

/** A backend for `bff.proxy`, and the environment that names it. */
export async function startBackend() {
  const server = createServer((req, res) => {
    const { type, body } = ANSWERS[req.url === '/controls' ? '/controls' : '/objects'];
    res.writeHead(200, { 'content-type': type, 'content-length': body.length }).end(body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const env = { BFF_BACKENDS: JSON.stringify({ default: { base_url: `http://127.0.0.1:${port}`, internal: true } }) };
  return { env, close: () => server.close() };
}

const history = (id: number): object => call('conversation.history', { session_id: 'big', limit: 200 }, id);
const fifty = Array.from({ length: 50 }, (_, id) => history(id));

export const MIXES: Readonly<Record<string, (sizes: MixSizes) => Promise<Mix['outcomes']>>> = {
  'pages of messages of 1 MB': async ({ url, requests }) =>
    count((await times(requests, async () => (await post(url, JSON.stringify(history(1)))).status)).flat()),

  'batches of 50 such pages': async ({ url, requests }) =>
    count((await times(requests, () => postBatch(url, fifty))).flat()),

  'batches of 40 commands that write 1 MiB of control characters': async ({ url, requests }) => {
    const command = { command: 'head', args: ['-c', String(MIB), '/dev/zero'] };
    const calls = Array.from({ length: 40 }, (_, id) => call('exec', command, id));
    return count((await times(Math.ceil(requests / 8), () => postBatch(url, calls))).flat());
  },

  'batches of 24 answers of a backend, control characters and empty objects': async ({ url, requests }) => {
    const calls = Array.from({ length: 24 }, (_, id) =>
      call('bff.proxy', { endpoint: Object.keys(ANSWERS)[id % 2] }, id),
    );
    return count((await times(Math.ceil(requests / 4), () => postBatch(url, calls))).flat());
  },

  'bodies of 1 MiB, empty objects and text': async ({ url, requests }) => {
    const objects = `{"jsonrpc":"2.0","id":1,"method":"mcp.call","params":{"name":"x","tool":"x","arguments":{"a":[${'{},'.repeat(345_000)}{}]}}}`;
    const answers = await times(requests * 2, (index) => {
      const prompt = call('conversation.prompt', { prompt: 't'.repeat(1_000_000), session_id: `t${index}` });
      return post(url, index % 2 === 0 ? objects : JSON.stringify(prompt));
    });
    return count(answers.map(({ status }) => status));
  },

  'readers that take nothing': async ({ url, requests }) => {
    const { port } = new URL(url);
    const body = JSON.stringify(fifty);
    const sockets = Array.from({ length: requests }, () => {
      const socket = connect(Number(port), '127.0.0.1').on('error', () => {});
      socket.pause();
      socket.write(
        `POST /jsonrpc HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: ${KEY}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      return socket;
    });
    await sleep(2_000);
    const { status } = await post(url, JSON.stringify(call('conversation.status', { session_id: 'big' })));
    for (const socket of sockets) socket.destroy();
    return { [`another call ${status}`]: 1 };
  },

  'streams of 50 subscriptions each, one webhook of 100 KB': async ({ url, streams }) => {
    const body = JSON.stringify(Array.from({ length: 50 }, (_, id) => call('events.subscribe', {}, id)));
    const headers = { 'x-api-key': KEY, accept: 'text/event-stream' };
    const open = Array.from({ length: streams }, () =>
      request(`${url}/jsonrpc`, { method: 'POST', agent, headers })
        .on('error', () => {})
        .end(body),
    );
    let events = 0;
    const arrived = Promise.withResolvers<void>();
    for (const sent of open) {
      sent.on('response', (response) => {
        response.on('error', () => {});
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk;
          const found = text.split('"method":"event"').length - 1;
          if (found === 0) return;
          text = '';
          events += found;
          if (events === 8) arrived.resolve();
        });
      });
    }
    const data = { text: 'w'.repeat(100_000) };
    const sendWebhook = (n: number): Promise<Response> =>
      fetch(`${url}/webhook`, {
        method: 'POST',
        headers: { 'x-api-key': KEY },
        body: JSON.stringify({
          event: 'deployment.success',
          timestamp: new Date().toISOString(),
          data: { ...data, n },
        }),
      });
    // The streams take their places while the first requests are read: events go on until one has come to every
    // subscription.
    let isDone = false;
    void arrived.promise.then(() => {
      isDone = true;
    });
    for (let n = 0; !isDone && n < 100; n++) {
      await sendWebhook(n);
      await Promise.race([arrived.promise, sleep(100)]);
    }
    for (const sent of open) sent.destroy();
    return { 'subscriptions at least': Math.min(8, events) };
  },
};

/** Asks `/health` from another thread until `work` has ended; resolves with how long the answers took, sorted. */
export async function probeHealth(url: string, work: () => Promise<unknown>): Promise<number[]> {
  const probe = new Worker(new URL('health-probe.ts', import.meta.url), { workerData: `${url}/health` });
  await once(probe, 'online');
  try {
    await work();
  } finally {
    probe.postMessage('over');
  }
  const [tookMs] = await once(probe, 'message');
  return tookMs;
}
