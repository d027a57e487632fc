// Replaces Google in calls from one service to another, for processes as they are deployed: a metadata server that
// signs ID tokens of one service account, and the certificates that verify them at the address where Google publishes
// them, reached through a proxy.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificate } from '../fixtures/network/certificate.ts';
import { KEY_ID, signIdToken } from './google-id-token.ts';

const CERTIFICATES_HOST = 'www.googleapis.com';

export interface GoogleIdentity {
  /** Variables of a process that runs as the service account. */
  readonly caller: Readonly<Record<string, string>>;
  /** Variables of a process that verifies tokens. */
  readonly verifier: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

export async function startGoogleIdentity(email: string): Promise<GoogleIdentity> {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const { cert, key } = makeCertificate(CERTIFICATES_HOST);
  const directory = await mkdtemp(join(tmpdir(), 'google-identity-'));
  await writeFile(join(directory, 'roots.pem'), cert);
  const metadata = createServer((req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://metadata');
    res.setHeader('Metadata-Flavor', 'Google');
    const isIdentity = pathname.endsWith('/identity');
    res.end(isIdentity ? signIdToken(privateKey, searchParams.get('audience') ?? '', email) : 'ok');
  });
  const certificates = createSecureServer({ cert, key }, (_, res) => {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=3600' });
    res.end(JSON.stringify({ [KEY_ID]: publicKey.export({ type: 'spki', format: 'pem' }) }));
  });
  const certificatesPort = await listen(certificates);
  const sockets = new Set<Socket>();
  const proxy = createServer().on('connect', (_req, socket: Socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    const upstream = connect(certificatesPort, '127.0.0.1');
    for (const one of [socket, upstream]) {
      sockets.add(one);
      one.on('error', () => {});
    }
    socket.pipe(upstream).pipe(socket);
  });
  const [metadataPort, proxyPort] = await Promise.all([listen(metadata), listen(proxy)]);
  return {
    caller: { GCE_METADATA_HOST: `127.0.0.1:${metadataPort}`, METADATA_SERVER_DETECTION: 'assume-present' },
    verifier: {
      HTTPS_PROXY: `http://127.0.0.1:${proxyPort}`,
      NODE_EXTRA_CA_CERTS: join(directory, 'roots.pem'),
      METADATA_SERVER_DETECTION: 'none',
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      for (const server of [metadata, certificates, proxy]) {
        server.closeAllConnections();
        server.close();
      }
      await rm(directory, { recursive: true });
    },
  };
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
