// A worker thread that opens store files when told to, at the very moment it is told: several of them open one together.
import { parentPort } from 'node:worker_threads';
import { systemClock } from '../../../shared/clock.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded.ts';

export interface Opening {
  readonly path: string;
  /** Epoch milliseconds. */
  readonly atMs: number;
}

parentPort?.on('message', async ({ path, atMs }: Opening) => {
  while (Date.now() < atMs);
  try {
    await createEmbeddedStore({ path, clock: systemClock }).close();
    parentPort?.postMessage('opened');
  } catch (error) {
    parentPort?.postMessage(String(error));
  }
});
