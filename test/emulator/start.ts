// `npm run start:emulators`: the local gateway on the real Firestore and Pub/Sub emulators. Stops all three together.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Emulator, startFirestoreEmulator, startPubsubEmulator } from '../support/fixtures/database/emulators.ts';

const GATEWAY = join(import.meta.dirname, '..', '..', 'functions', 'local', 'main.ts');

const emulators: Emulator[] = [];
try {
  process.exitCode = await run();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  await Promise.all(emulators.map((emulator) => emulator.stop()));
}

/** Resolves to the gateway's exit code. */
async function run(): Promise<number> {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopping.abort(signal));
  const started = await Promise.allSettled([startFirestoreEmulator(), startPubsubEmulator()]);
  for (const outcome of started) if (outcome.status === 'fulfilled') emulators.push(outcome.value);
  for (const outcome of started) if (outcome.status === 'rejected') throw outcome.reason;
  const [firestore, pubsub] = emulators;
  if (firestore === undefined || pubsub === undefined || stopping.signal.aborted) return 1;
  process.stdout.write(`Firestore emulator at ${firestore.host}, Pub/Sub emulator at ${pubsub.host}\n`);
  const gateway = spawn(process.execPath, [GATEWAY], {
    stdio: 'inherit',
    env: {
      GOOGLE_CLOUD_PROJECT: 'demo-gateway',
      METADATA_SERVER_DETECTION: 'none',
      ...process.env,
      FIRESTORE_EMULATOR_HOST: firestore.host,
      PUBSUB_EMULATOR_HOST: pubsub.host,
    },
  });
  // The gateway drains on SIGTERM; the emulators stay until it has.
  stopping.signal.addEventListener('abort', () => gateway.kill('SIGTERM'));
  const [code] = await once(gateway, 'exit');
  return typeof code === 'number' ? code : 1;
}
