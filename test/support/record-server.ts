// Records turns with a real server of MODEL_PROVIDERS that runs on this machine: `node test/support/record-server.ts
// --server vllm --wire chat --model smol --url http://127.0.0.1:8000 --key x` writes
// test/support/fakes/servers/vllm-smol-chat.json, whose results are to be read before they are committed. `--turn`
// records some turns only; the others of the file stay.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadConfig } from '../../shared/config/load-config.ts';
import { createEngines } from '../../shared/engines/engines.ts';
import { type Exchange, type Recorded, Recording, resultOf, TURNS } from './fixtures/turns/recorded-turns.ts';

const text = { type: 'string' } as const;
const { values } = parseArgs({
  options: {
    ...{ server: text, model: text, url: text, key: { ...text, default: 'none' } },
    ...{ wire: { ...text, default: 'chat' }, turn: { ...text, multiple: true } },
  },
});
const { server = 'server', model = 'model', url = '', key, wire } = values;
const file = join(import.meta.dirname, 'fakes/servers', `${server}-${model}-${wire}.json`);

let exchanges: Exchange[] = [];
/** A turn may end before the answer of its server. */
const relayed: Promise<void>[] = [];
const relay = createServer((request, response) => void relayed.push(pass(request, response)));

async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const headers = { 'content-type': 'application/json', authorization: request.headers.authorization ?? '' };
  const answer = await fetch(new URL(request.url ?? '/', url), { method: 'POST', headers, body });
  response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' });
  let received = '';
  for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    received += chunk;
    response.write(chunk);
  }
  response.end();
  exchanges.push({ request: JSON.parse(body), status: answer.status, body: shorten(received) });
}

/** Some servers put their state into ids. */
function shorten(body: string): string {
  return body.replaceAll(/\b((?:resp|msg|rs)_)[\w=-]{40,}/g, '$1recorded');
}

const recorded = new Map<string, Recorded>();
if (existsSync(file)) {
  for (const one of Recording.parse(JSON.parse(readFileSync(file, 'utf8'))).turns) recorded.set(one.turn, one);
}
await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
const base_url = `http://127.0.0.1:${(relay.address() as AddressInfo).port}/v1`;
const MODEL_PROVIDERS = JSON.stringify({ [server]: { base_url, wire, api_key: key } });
const engines = createEngines(loadConfig({ MODEL_PROVIDERS }), { direct: { retryMs: 10 } });
for (const [turn, request] of Object.entries(TURNS)) {
  if (values.turn?.includes(turn) === false) continue;
  exchanges = [];
  const { engine } = engines.resolve(`${server}/${model}`);
  const result = await resultOf(engine, server, model, request);
  await Promise.all(relayed);
  recorded.set(turn, { turn, exchanges, result });
  const turns = Object.keys(TURNS).flatMap((name) => recorded.get(name) ?? []);
  writeFileSync(file, `${JSON.stringify({ server, model, wire, turns }, null, 2)}\n`);
  process.stdout.write(`${turn} ${exchanges.length} ${JSON.stringify(result)}\n`);
}
relay.close();
