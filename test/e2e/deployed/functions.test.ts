// The deployed bundle works in a directory without other files, under the unmodified functions-framework CLI: every
// target starts, and answers and refuses requests as specified.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connectionCases } from '../../cases/connection.cases.ts';
import { copyBundle } from '../../support/fixtures/gateway/bundles.ts';
import { ROOT, type RunningFunction, startFunction } from '../../support/fixtures/gateway/functions-cli.ts';
import { startOtlpReceiver } from '../../support/fixtures/network/otlp-receiver.ts';

const KEY = 'test-key-of-the-functions';
const LOCAL = { GATEWAY_API_KEY: KEY, GATEWAY_STORE: 'memory' };
/** Nothing listens on the discard port: an outage from the first call on. */
const NOWHERE = '127.0.0.1:9';

const build = (outdir: string) =>
  promisify(execFile)(process.execPath, [path.join(ROOT, 'functions/build/main.ts'), outdir]);

let directory = '';
let bundle = '';
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'gateway-functions-'));
  bundle = path.join(directory, 'bundle');
  await copyBundle('functions', bundle);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const running: RunningFunction[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((fn) => fn.stop('SIGKILL')));
});

async function start(target: string, env: Record<string, string> = LOCAL): Promise<RunningFunction> {
  const fn = await startFunction({ source: bundle, target, env: { METADATA_SERVER_DETECTION: 'none', ...env } });
  running.push(fn);
  return fn;
}

function post(
  url: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    body,
    headers: { 'x-api-key': KEY, 'content-type': 'application/json', ...headers },
  });
}

function call(method: string, params: object): string {
  return JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
}

const KEY_HEADER = `X-API-Key: ${KEY}`;
const LIST = '{"jsonrpc":"2.0","id":1,"method":"conversation.list"}';
for (const { target: name, ...about } of [
  { target: 'health', line: 'GET / HTTP/1.1', status: 200 },
  { target: 'jsonrpc', line: 'POST / HTTP/1.1', headers: [KEY_HEADER], body: LIST, status: 200 },
  { target: 'webhook', line: 'POST / HTTP/1.1', headers: [KEY_HEADER], body: '{}', status: 400 },
  { target: 'deployments', line: 'POST / HTTP/1.1', body: '{}', status: 400 },
]) {
  connectionCases(`the function ${name}`, async () => {
    const env = { ...LOCAL, METADATA_SERVER_DETECTION: 'none', GATEWAY_LIMITS: '100000/minute' };
    const fn = await startFunction({ source: bundle, target: name, env });
    return { ...about, port: fn.port, close: async () => void (await fn.stop('SIGKILL')) };
  });
}

describe('the build', () => {
  it('the build makes the same bytes of the same source', async () => {
    const again = path.join(directory, 'again');
    await build(again);
    const names = (await readdir(bundle, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(bundle, path.join(entry.parentPath, entry.name)));
    expect(names.length).toBeGreaterThan(10);
    for (const name of names) {
      expect((await readFile(path.join(again, name))).equals(await readFile(path.join(bundle, name))), name).toBe(true);
    }
  });

  it('the bundle needs nothing but the framework, pinned exactly, on Node 24', async () => {
    const manifest: unknown = JSON.parse(await readFile(path.join(bundle, 'package.json'), 'utf8'));
    expect(manifest).toMatchObject({ type: 'module', main: 'index.js', engines: { node: '24' } });
    expect(manifest).toHaveProperty('dependencies', { '@google-cloud/functions-framework': '5.0.5' });
  });

  it.each(['health', 'jsonrpc'])(
    'the function %s starts without loading a module of Node that it does not use',
    async (target) => {
      const script = `await import(${JSON.stringify(path.join(bundle, 'index.js'))});
      console.log(JSON.stringify(process.moduleLoadList)); process.exit(0);`;
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
        env: { ...LOCAL, FUNCTION_TARGET: target },
      });
      const loaded: unknown = JSON.parse(stdout);
      expect(loaded).toContain('NativeModule http');
      expect(loaded).not.toContain('NativeModule internal/deps/undici/undici');
    },
  );

  it('the function jsonrpc starts on Firestore without loading the SDK, protobuf definitions or other languages', async () => {
    const script = `import { registerHooks } from 'node:module';
      const urls = [];
      registerHooks({ load: (url, context, next) => (urls.push(url), next(url, context)) });
      await import(${JSON.stringify(path.join(bundle, 'index.js'))});
      console.log(JSON.stringify(urls.filter((url) => url.startsWith('file:')))); process.exit(0);`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
      env: {
        GATEWAY_API_KEY: KEY,
        GOOGLE_CLOUD_PROJECT: 'p',
        FIRESTORE_EMULATOR_HOST: NOWHERE,
        FUNCTION_TARGET: 'jsonrpc',
      },
    });
    const urls: string[] = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
    const code = (await Promise.all(urls.map((url) => readFile(new URL(url), 'utf8')))).join('\n');
    expect(code).toContain('@grpc/grpc-js/build/src/client.js');
    expect(code).not.toMatch(/node_modules\/(google-gax|protobufjs|@google-cloud\/firestore)\//);
    // In zod's German messages.
    expect(code).not.toContain('ltige Eingabe');
  });
});

describe('every target answers under the stock CLI, at / and at its name', () => {
  it('the function health answers under the stock CLI, at / and at its name', async () => {
    const { url } = await start('health');
    for (const at of ['/', '/health']) {
      const response = await fetch(url + at);
      expect([response.status, await response.json()]).toEqual([200, { status: 'healthy' }]);
    }
    expect((await fetch(`${url}/health?verbose=1`)).status).toBe(401);
    const verbose = await fetch(`${url}/health?verbose=1`, { headers: { 'x-api-key': KEY } });
    expect([verbose.status, await verbose.json()]).toMatchObject([200, { status: 'healthy' }]);
  });

  it('the function health has no verbose check where its account reads no keys', async () => {
    const { url } = await start('health', { GOOGLE_CLOUD_PROJECT: 'p', ALLOWED_ORIGINS: 'https://app.example' });
    const headers = { 'x-api-key': KEY, origin: 'https://app.example' };
    const plain = await fetch(`${url}/health`, { headers });
    expect([plain.status, plain.headers.get('access-control-allow-origin')]).toEqual([200, headers.origin]);
    expect((await fetch(`${url}/health?verbose=1`, { headers })).status).toBe(404);
  });

  it('the function jsonrpc answers a call', async () => {
    const { url } = await start('jsonrpc');
    for (const at of ['/', '/jsonrpc']) {
      const response = await post(url + at, call('conversation.prompt', { prompt: 'Hello' }));
      expect(response.status).toBe(200);
      expect(response.headers.get('x-ratelimit-limit')).toBe('100');
      expect(await response.json()).toMatchObject({ jsonrpc: '2.0', id: 1, result: { type: 'ai_response' } });
    }
  });

  it('the function jsonrpc sends spans to a collector, and its lines have the trace in its project', async () => {
    const receiver = await startOtlpReceiver();
    const otlp = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, GOOGLE_CLOUD_PROJECT: 'p', GATEWAY_BUS: 'local' };
    const running = await start('jsonrpc', { ...LOCAL, ...otlp });
    const traceId = 'a'.repeat(32);
    const headers = { 'x-api-key': KEY, 'x-cloud-trace-context': `${traceId}/1;o=1` };
    const body = call('conversation.prompt', { prompt: 'Hello' });
    await (await fetch(`${running.url}/jsonrpc`, { method: 'POST', headers, body })).text();
    await running.stop();
    const spans = receiver.spans.filter((span) => span.traceId === traceId);
    expect(spans.map(({ name }) => name).sort()).toEqual(['POST /jsonrpc', 'chat echo']);
    expect(spans.find(({ kind }) => kind === 'server')?.parentSpanId).toBe('0000000000000001');
    expect(running.output()).toContain(`"logging.googleapis.com/trace":"projects/p/traces/${traceId}"`);
    await receiver.close();
  });

  it('the function webhook accepts an event', async () => {
    const { url } = await start('webhook');
    for (const at of ['/', '/webhook']) {
      const event = { event: 'deployment.success', timestamp: '2026-01-01T00:00:00Z', data: { at } };
      const response = await post(url + at, JSON.stringify(event));
      expect([response.status, await response.json()]).toMatchObject([200, { status: 'accepted', duplicate: false }]);
    }
  });

  it('the function deployments refuses a push that is no message', async () => {
    const { url } = await start('deployments');
    for (const at of ['/', '/deployments']) {
      const response = await post(url + at, '{}');
      expect(response.status).toBe(400);
      expect(response.headers.get('content-type')).toMatch(/json/);
    }
  });
});

describe('a function that is not deployed', () => {
  it('a function that is not deployed is reached from its own machine alone, because its key is public', async () => {
    const { url } = await start('jsonrpc', { GATEWAY_STORE: 'memory' });
    const fetchStatus = async (host: string): Promise<number> => {
      const headers = { 'x-api-key': 'dev-key' };
      const at = url.replace('127.0.0.1', host);
      return (await fetch(at, { method: 'POST', body: call('conversation.list', {}), headers })).status;
    };
    expect(await fetchStatus('127.0.0.1')).toBe(200);
    // The same machine under another address: a server that listens on all addresses responds there, too.
    await expect(fetchStatus('127.0.0.2')).rejects.toThrow('fetch failed');
    const container = await start('jsonrpc', { GATEWAY_STORE: 'memory', GATEWAY_API_KEY: KEY, K_SERVICE: 'jsonrpc' });
    expect((await fetch(container.url.replace('127.0.0.1', '127.0.0.2'))).status).toBe(405);
  });
});

describe('a start that cannot be right', () => {
  it('a start with an invalid configuration ends with a line per mistake', async () => {
    const mistakes = { ...LOCAL, GATEWAY_LIMITS: 'many', ALLOWED_ORIGINS: 'not an origin' };
    await expect(start('jsonrpc', mistakes)).rejects.toThrow(/GATEWAY_LIMITS[\s\S]*ALLOWED_ORIGINS/);
  });

  it('a start with an unknown target ends', async () => {
    await expect(start('constructor')).rejects.toThrow(/constructor/);
  });
});

describe('what the framework itself would get wrong', () => {
  it('a refusal is JSON of JSON-RPC through the framework: no key, too big, compressed, broken, empty, a form, another verb', async () => {
    const { url } = await start('jsonrpc');
    const cases: [Promise<Response>, number, number][] = [
      [post(url, call('conversation.list', {}), { 'x-api-key': 'wrong' }), 401, 401],
      [post(url, Buffer.alloc((1 << 20) + 1, ' ')), 413, 413],
      [post(url, gzipSync('{}'), { 'content-encoding': 'gzip' }), 415, 415],
      [post(url, '{"jsonrpc":'), 400, -32700],
      [post(url, ''), 400, -32700],
      [post(url, 'a=b', { 'content-type': 'application/x-www-form-urlencoded' }), 400, -32700],
      [fetch(url, { headers: { 'x-api-key': KEY } }), 405, 405],
    ];
    for (const [sent, status, code] of cases) {
      const response = await sent;
      expect(response.headers.get('content-type')).toMatch(/^application\/json/);
      expect([response.status, await response.json()]).toMatchObject([
        status,
        { jsonrpc: '2.0', id: null, error: { code } },
      ]);
    }
  });

  it('a request that is half sent at SIGTERM still gets its 200 through the framework', async () => {
    const fn = await start('jsonrpc');
    const body = call('conversation.prompt', { prompt: 'Hello' });
    const sockets = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const socket = connect(fn.port, '127.0.0.1').setEncoding('utf8');
        socket.write(
          `POST / HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${KEY}\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`,
        );
        // The interim answer shows that the handler has admitted the request and waits for its body.
        const [interim] = await once(socket, 'data');
        expect(interim).toContain('100 Continue');
        return socket;
      }),
    );
    const stopped = fn.stop('SIGTERM');
    await expect.poll(() => refuses(fn.port)).toBe(true);
    const answers = await Promise.all(
      sockets.map(async (socket) => {
        let answer = '';
        socket.on('data', (text) => {
          answer += text;
        });
        socket.write(body);
        await once(socket, 'close');
        return answer;
      }),
    );
    for (const answer of answers)
      expect(answer).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*Connection: close[\s\S]*ai_response/i);
    expect(await stopped).toEqual({ code: 0, signal: null });
  });
});

describe('the Google SDKs load from the bundle', () => {
  const cloud = { GATEWAY_API_KEY: KEY, GOOGLE_CLOUD_PROJECT: 'p' };
  it.each<[string, string, Record<string, string>, number, RegExp]>([
    ['Firestore', 'jsonrpc', { ...cloud, FIRESTORE_EMULATOR_HOST: NOWHERE }, 503, /"outcome":"unavailable"/],
    ['Pub/Sub', 'webhook', { ...cloud, GATEWAY_STORE: 'memory', PUBSUB_EMULATOR_HOST: NOWHERE }, 202, /./],
    [
      'Secret Manager',
      'jsonrpc',
      { GOOGLE_CLOUD_PROJECT: 'p', GATEWAY_STORE: 'memory', GATEWAY_KEY_SOURCE: 'secret-manager' },
      503,
      /default credentials/,
    ],
  ])(
    '%s is loaded from the bundle, and its outage is reported as an outage, not as a defect of the bundle',
    async (_name, target, env, status, logged) => {
      const fn = await start(target, env);
      const body =
        target === 'webhook'
          ? JSON.stringify({ event: 'a', timestamp: '2026-01-01T00:00:00Z', data: {} })
          : call('conversation.prompt', { prompt: 'x' });
      const response = await post(fn.url, body);
      expect(response.status).toBe(status);
      await fn.stop();
      expect(fn.output()).toMatch(logged);
      expect(fn.output()).not.toMatch(/TypeError|ReferenceError|Cannot find/);
    },
  );
});

async function refuses(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}
