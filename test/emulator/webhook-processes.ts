// Starts webhook instances (webhook-worker.ts) and finds out how they end. Owns their lives: stop() leaves none behind.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

/** Steps at which a process can be made to kill itself, in the order of a delivery. */
export const STEPS = [
  'before record',
  'after record',
  'after publish',
  'after mark',
  'before apply',
  'after apply',
] as const;
export type Step = (typeof STEPS)[number];

export interface WorkerSetup {
  readonly firestoreHost: string;
  readonly pubsubHost: string;
  readonly projectId: string;
  readonly topic: string;
  readonly port: number;
  /** How far the process's clock is ahead, milliseconds: ends claims without waiting for them. */
  readonly skewMs: number;
  readonly dieAt?: Step;
  /** The how-manieth time that step kills. */
  readonly dieOn?: number;
}

export interface WebhookProcess {
  readonly url: string;
  /** Resolves with the signal that ended the process, null when it exited by itself. */
  readonly ended: Promise<string | null>;
  stop(): Promise<void>;
}

const WORKER = fileURLToPath(new URL('./webhook-worker.ts', import.meta.url));

/** Resolves when the process accepts requests. */
export async function startWebhookProcess(setup: WorkerSetup): Promise<WebhookProcess> {
  const child: ChildProcess = fork(WORKER, [JSON.stringify(setup)], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      METADATA_SERVER_DETECTION: 'none',
    },
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let noise = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    noise = (noise + String(chunk)).slice(-4_096);
  });
  const ended = once(child, 'exit').then(([, signal]) => signal as string | null);
  const first = await Promise.race([once(child, 'message'), ended]);
  if (!Array.isArray(first)) throw new Error(`the webhook process ended before it was ready: ${noise}`);
  return {
    url: `http://127.0.0.1:${setup.port}`,
    ended,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await ended;
    },
  };
}

/** A free port, for an address that outlives the process behind it. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
