// The deployed bundle encrypts logins with Cloud KMS by the bundled SDK: over TLS, with the credentials of a service
// account, to a KMS on loopback that a proxy serves under the name of the real one. It does not contain the parts of
// the companion that functions do not need.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import type { Metafile } from 'esbuild';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type FakeKms, startFakeKms } from '../../support/fakes/kms.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { findBundles } from '../../support/fixtures/gateway/bundles.ts';
import { type RunningFunction, startFunction } from '../../support/fixtures/gateway/functions-cli.ts';
import { makeCertificate } from '../../support/fixtures/network/certificate.ts';

const KMS_KEY = 'projects/p/locations/l/keyRings/r/cryptoKeys/logins';
const KMS_HOST = 'cloudkms.googleapis.com';
const TOKEN = 'sk-of-the-caller-0123456789';

let directory: string;
let metafile: Metafile;
let kms: FakeKms;
let proxy: Awaited<ReturnType<typeof startProxy>>;
let provider: ModelProvider;
let fn: RunningFunction;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gateway-functions-login-'));
  const { cert, key } = makeCertificate(KMS_HOST);
  [kms, provider] = await Promise.all([startFakeKms([KMS_KEY]), startModelProvider()]);
  proxy = await startProxy({ cert, key, to: kms.clientOptions.port });
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const account = {
    type: 'service_account',
    project_id: 'p',
    private_key_id: 'k',
    private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    client_email: 'jsonrpc@p.iam.gserviceaccount.com',
    token_uri: 'http://127.0.0.1:9/token',
  };
  await Promise.all([
    writeFile(join(directory, 'account.json'), JSON.stringify(account)),
    writeFile(join(directory, 'roots.pem'), cert),
  ]);
  const bundles = await findBundles();
  metafile = JSON.parse(await readFile(bundles.metafiles.functions, 'utf8'));
  fn = await startFunction({
    source: bundles.functions,
    target: 'jsonrpc',
    env: {
      GATEWAY_API_KEY: 'key',
      GATEWAY_STORE: 'memory',
      KMS_KEY,
      OPENAI_BASE_URL: provider.url,
      GOOGLE_APPLICATION_CREDENTIALS: join(directory, 'account.json'),
      METADATA_SERVER_DETECTION: 'none',
      grpc_proxy: `http://127.0.0.1:${proxy.port}`,
      GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: join(directory, 'roots.pem'),
    },
  });
}, 60_000);
afterAll(async () => {
  await fn?.stop('SIGKILL');
  await Promise.all([proxy?.close(), provider?.close()]);
  kms?.stop();
  await rm(directory, { recursive: true, force: true });
});

async function call(method: string, params: object): Promise<unknown> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  return (await fetch(fn.url, { method: 'POST', headers: { 'x-api-key': 'key' }, body })).json();
}

it('the deployed bundle seals a login with KMS and uses it', { timeout: 60_000 }, async () => {
  const login = await call('auth.login', { provider: 'openai', credentials: { token: TOKEN } });
  expect(login, fn.output()).toMatchObject({ result: { provider: 'openai' } });
  expect([...new Set(proxy.targets)]).toEqual([`${KMS_HOST}:443`]);
  expect(kms.calls).toBe(1);
  // What KMS is given is the key of an envelope, not the token.
  expect(kms.plaintexts.some((text) => text.includes(TOKEN))).toBe(false);
  const auth_session_id = Reflect.get(Reflect.get(Object(login), 'result'), 'session_id');
  const answer = await call('conversation.prompt', { prompt: 'Hello', auth_session_id });
  expect(answer).toMatchObject({ result: { content: 'You said: Hello' } });
  expect(provider.requests.at(-1)?.headers.authorization).toBe(`Bearer ${TOKEN}`);
  expect(fn.output()).not.toContain(TOKEN);
});

it('the deployed bundle has nothing of the Codex package, and loads nothing that drives it but on its first turn', () => {
  expect(Object.keys(metafile.inputs).filter((file) => file.includes('@openai/codex'))).toEqual([]);
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  expect(imports.filter(({ path }) => path.includes('@openai/'))).toEqual([]);
  for (const module of ['shared/codex-host/app-server/app-server.ts', 'shared/engines/codex/engine.ts']) {
    const [output, ...others] = Object.entries(metafile.outputs).filter(([, { inputs }]) =>
      Object.keys(inputs).some((file) => file.endsWith(module)),
    );
    expect(others).toEqual([]);
    const kinds = new Set(imports.filter(({ path }) => path === output?.[0]).map(({ kind }) => kind));
    expect([module, ...kinds]).toEqual([module, 'dynamic-import']);
  }
});

/**
 * A proxy (CONNECT) that routes every connection to an address of the test: TLS with the given certificate, then on to
 * `to` in the clear.
 */
async function startProxy({ cert, key, to }: { readonly cert: string; readonly key: string; readonly to: number }) {
  const targets: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer().on('connect', ({ url }, socket: Socket) => {
    targets.push(url ?? '');
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    const secure = new TLSSocket(socket, { isServer: true, cert, key, ALPNProtocols: ['h2'] });
    const upstream = connect(to, '127.0.0.1');
    for (const one of [socket, secure, upstream]) {
      sockets.add(one);
      one.on('error', () => {});
    }
    secure.pipe(upstream).pipe(secure);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    targets,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
