// A real HTTP server on loopback that answers as Anthropic, OpenAI and Vertex do, with scripted faults if requested. It
// records the received headers and bodies, and whether the client closed the socket, and imports nothing of the
// gateway.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { type Checks, createChecks } from './model-provider-checks.ts';
import { hasBlankText, isStream, type SeenRequest, toFormat, toRecord, toReport } from './model-provider-record.ts';
import { type Script, toScript } from './model-provider-script.ts';
import { refuseTools } from './model-provider-tools.ts';
import { type Answer, countTokens, WIRES } from './model-provider-wire.ts';

export type { SeenRequest } from './model-provider-record.ts';

export interface ModelProvider {
  readonly url: string;
  /** The last 1,000 requests, oldest first. */
  readonly requests: readonly SeenRequest[];
  /** Requests that check a token; they are not among `requests`. */
  readonly checks: Omit<Checks, 'handle'>;
  /** Calls in all. */
  readonly calls: number;
  /** Replaces the behaviour; default: by the directives in the prompt, as at the start. */
  behave(behaviour?: (request: SeenRequest) => Script): void;
  /** The next request to arrive, from this call on. */
  next(): Promise<SeenRequest>;
  close(): Promise<void>;
}

const SEEN_MAX = 1_000;
const BLANK: Script = { status: 400, message: 'messages: text content blocks must contain non-whitespace text' };
const BODY_BYTES_MAX = 64 << 20;

/** Starts a provider on 127.0.0.1; `port` 0 takes a free one. Base URL for every SDK: `url`. */
export async function startModelProvider(options: { readonly port?: number } = {}): Promise<ModelProvider> {
  const seen: SeenRequest[] = [];
  const repeats = new Map<string, number>();
  const waiting: ((request: SeenRequest) => void)[] = [];
  const checks = createChecks();
  let calls = 0;
  const byDirectives = (request: SeenRequest): Script => {
    const key = `${request.format} ${request.prompt}`;
    const times = repeats.get(key) ?? 0;
    if (repeats.size < SEEN_MAX || times > 0) repeats.set(key, times + 1);
    return toScript({ ...request, repeats: times });
  };
  let behaviour = byDirectives;

  const server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    if (request.method === 'GET' && path === '/__requests')
      return sendJson(response, { calls, requests: seen.map(toReport) });
    if (request.method === 'POST' && path === '/__reset') {
      seen.length = 0;
      repeats.clear();
      calls = 0;
      return sendJson(response, { calls });
    }
    if (checks.handle(request, response)) return;
    const format = toFormat(request.method, path);
    const text = await readBody(request);
    if (format === undefined || text === undefined) return sendJson(response, { error: 'not found' }, 404);
    const record = toRecord(calls, format, path, request, response, text);
    calls += 1;
    seen.push(record);
    if (seen.length > SEEN_MAX) seen.shift();
    for (const resolve of waiting.splice(0)) resolve(record);
    try {
      const refusal = refuseTools(record.body);
      const refused: Script | undefined = refusal === undefined ? undefined : { status: 400, message: refusal };
      await play(record, refused ?? (hasBlankText(record.body) ? BLANK : behaviour(record)), response);
    } catch {
      response.destroy();
    }
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: seen,
    checks,
    get calls() {
      return calls;
    },
    behave(next = byDirectives) {
      behaviour = next;
    },
    next: () => new Promise((resolve) => waiting.push(resolve)),
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function play(record: SeenRequest, script: Script, response: ServerResponse): Promise<void> {
  const wire = WIRES[record.format];
  const text = script.text ?? 'ok';
  const chunks = script.chunks ?? [text];
  const answer: Answer = {
    id: String(record.index),
    model: record.model,
    inputTokens: countTokens(record.prompt),
    cachedTokens: script.cachedTokens ?? 0,
    reasoningTokens: script.reasoningTokens ?? 0,
  };
  if (script.delayMs !== undefined) await sleep(script.delayMs);
  if (script.hang === 'headers') return;
  if (script.body !== undefined) {
    response.writeHead(script.status ?? 200, { 'content-type': 'text/event-stream', ...script.headers });
    for (const piece of inPieces(Buffer.from(script.body), script.pieceBytes)) {
      response.write(piece);
      if (script.pieceBytes !== undefined) await nextTurn();
    }
    return void response.end();
  }
  if (script.status !== undefined) {
    response.writeHead(script.status, { 'content-type': 'application/json', ...script.headers });
    const message =
      script.status === 404 ? `The model \`${record.model}\` does not exist` : `status ${script.status} as asked`;
    response.end(wire.errorBody(script.status, script.message ?? message, script.code));
    return;
  }
  if (!isStream(record)) {
    response.writeHead(200, { 'content-type': 'application/json' }).end(wire.whole(answer, chunks.join('')));
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', ...script.headers });
  if (script.streamError === 'first')
    return void response.end(wire.streamError(script.message ?? 'error event as asked', script.errorStatus ?? 529));
  await send(response, wire.start(answer));
  if (script.reasoning !== undefined) await send(response, wire.reasoning(answer, script.reasoning));
  const cutAt = script.cutAtOnce === true ? 0 : Math.max(1, Math.floor(chunks.length / 2));
  for (const [index, chunk] of chunks.entries()) {
    if (script.cut !== undefined && index === cutAt) return cut(record, response, script.cut);
    if (index > 0 && script.everyMs) await sleep(script.everyMs);
    await script.gate?.(index);
    await send(response, wire.delta(answer, chunk));
    record.chunksSent += 1;
    if (script.hang === 'stream') {
      while (script.pingMs !== undefined && !response.destroyed) {
        await sleep(script.pingMs);
        response.write(wire.ping());
      }
      return;
    }
    if (script.streamError === 'middle')
      return void response.end(wire.streamError(script.message ?? 'error event as asked', script.errorStatus ?? 529));
  }
  if (script.cut !== undefined) return cut(record, response, script.cut);
  if (script.toolCall !== undefined) await send(response, wire.toolCall(answer, script.toolCall));
  await script.gate?.(chunks.length);
  const end = wire.end(answer, chunks.join(''), script.end ?? (script.toolCall === undefined ? 'stop' : 'tool'));
  if (script.keepOpen === true) response.write(end);
  else response.end(end);
}

function* inPieces(body: Buffer, pieceBytes = body.length): Generator<Buffer> {
  for (let start = 0; start < body.length; start += pieceBytes) yield body.subarray(start, start + pieceBytes);
}

/** Destroys the socket, or ends the body cleanly, once what was written has left. */
function cut(record: SeenRequest, response: ServerResponse, how: 'socket' | 'end'): void {
  record.cutByServer = true;
  if (how === 'end') response.end();
  else response.write(': \n\n', () => response.socket?.resetAndDestroy());
}

/** Waits for a slow reader, so that a big answer is not kept here; throws when the client is gone. */
async function send(response: ServerResponse, text: string): Promise<void> {
  if (response.destroyed) throw new Error('client is gone');
  if (text === '' || response.write(text)) return;
  await new Promise<void>((resolve) => {
    const over = (): void => {
      response.off('drain', over).off('close', over);
      resolve();
    };
    response.on('drain', over).on('close', over);
  });
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_BYTES_MAX) return undefined;
  }
  return Buffer.concat(chunks).toString();
}

function sendJson(response: ServerResponse, value: object, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}
