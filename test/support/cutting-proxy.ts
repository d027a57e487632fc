// A TCP proxy for fault tests: passes bytes both ways until `swallow` drops the responses, then cuts the connection
// once the server has answered into the void.
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface CuttingProxy {
  /** `127.0.0.1:port` */
  readonly host: string;
  /** From now on requests arrive and answers do not; each connection is cut `afterMs` after its next answer. */
  swallowAnswers(afterMs: number): void;
  /** Passes everything again, on new connections. */
  pass(): void;
  stop(): Promise<void>;
}

export async function startCuttingProxy(target: string): Promise<CuttingProxy> {
  const [hostname, port] = target.split(':');
  const sockets = new Set<Socket>();
  let swallowing: number | undefined;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const [socket, peer] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        peer.destroy();
      });
    }
    client.on('data', (bytes) => upstream.write(bytes));
    upstream.on('data', (bytes) => {
      if (swallowing === undefined) client.write(bytes);
      else setTimeout(() => client.destroy(), swallowing);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    host: `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`,
    swallowAnswers(afterMs) {
      swallowing = afterMs;
    },
    pass() {
      swallowing = undefined;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
