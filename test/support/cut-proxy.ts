// A TCP proxy between a client and a gateway that loses what the test chooses: the connections there are, or the next
// answer.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface CutProxy {
  /** The gateway, seen through the proxy. */
  readonly url: string;
  /** Connections accepted so far. */
  readonly connections: number;
  /** Answers lost so far. */
  readonly losses: number;
  /** Resets every connection. */
  cut(): void;
  /**
   * The next answer reaches nobody: its connection is reset in its place. `passed`: after so many more pieces of
   * answers.
   */
  loseAnswer(passed?: number): void;
  /** While true, every connection is reset, and every new one too. */
  loseAll(lost: boolean): void;
  stop(): Promise<void>;
}

export async function startCutProxy(target: string): Promise<CutProxy> {
  const { hostname, port } = new URL(target);
  const clients = new Set<Socket>();
  let connections = 0;
  let losses = 0;
  let lost = false;
  let lose: number | undefined;
  const server = createServer((client) => {
    connections++;
    if (lost) return void client.resetAndDestroy();
    clients.add(client);
    const upstream = connect(Number(port), hostname);
    client.on('data', (bytes) => upstream.write(bytes)).on('error', () => {});
    upstream.on('error', () => {});
    client.on('close', () => {
      clients.delete(client);
      upstream.destroy();
    });
    upstream.on('close', () => client.destroy());
    upstream.on('data', (bytes) => {
      if (lose === undefined || lose-- > 0) client.write(bytes);
      else {
        lose = undefined;
        losses++;
        client.resetAndDestroy();
      }
    });
  });
  const cut = (): void => {
    for (const client of clients) client.resetAndDestroy();
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return connections;
    },
    get losses() {
      return losses;
    },
    cut,
    loseAll(all) {
      lost = all;
      if (all) cut();
    },
    loseAnswer(passed = 0) {
      lose = passed;
    },
    async stop() {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
