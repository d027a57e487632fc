// A watch of Firestore that ends while the SDK opens its stream leaves no unhandled rejection.
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { createFirestoreWatch } from '../../../shared/store/firestore/watch.ts';

/** Iterations of the event loop between the start of a watch and its end: fewer and more than the SDK needs. */
const ITERATIONS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

it.each(['close', 'restart'] as const)(
  'the end of a watch by %s leaves no rejection without a handler, whenever a watch was started before',
  async (end) => {
    const rejected: unknown[] = [];
    const onRejection = (error: unknown): void => void rejected.push(error);
    process.on('unhandledRejection', onRejection);
    const open = new Set<Socket>();
    const server = createServer((socket) => open.add(socket));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('the server has no port');
    const address = { projectId: 'p', databaseId: '(default)', emulatorHost: `127.0.0.1:${bound.port}` };
    const start = () => {
      const watcher = createFirestoreWatch(address, () => Date.now());
      watcher.watch({ collection: 'c', id: 'a' }, () => {}, undefined);
      return watcher;
    };
    try {
      const ended = [];
      for (const iterations of ITERATIONS) {
        const watcher = start();
        for (let n = 0; n < iterations; n++) await new Promise(setImmediate);
        watcher[end]();
        ended.push(watcher);
      }
      // A later watch has connected: what the SDK had begun for the others is over.
      const before = open.size;
      const last = start();
      await expect.poll(() => open.size).toBeGreaterThan(before);
      for (const watcher of [...ended, last]) watcher.close();
      expect(rejected).toEqual([]);
    } finally {
      process.off('unhandledRejection', onRejection);
      for (const socket of open) socket.destroy();
      server.close();
    }
  },
);
