// One gateway instance as far as webhooks go, in a process of its own: `/webhook`, `/webhook/sweep` and the push
// endpoint `/deployments` over Firestore and Pub/Sub. On a message of its parent, it kills itself with SIGKILL at a
// chosen step, as a machine would.
import { createServer } from 'node:http';
import { createDeploymentsHandler } from '../../functions/deployments/handler.ts';
import { createWebhookHandler } from '../../functions/webhook/handler.ts';
import { loadConfig } from '../../shared/config/config.ts';
import { createServices } from '../../shared/create-services.ts';
import { createGateway } from '../../shared/gateway.ts';
import { createLogger } from '../../shared/log.ts';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import type { Store, Write } from '../../shared/store/store.ts';
import { createPubsubBus } from '../../shared/webhooks/bus/pubsub.ts';
import type { Step, WorkerSetup } from './webhook-processes.ts';

const setup: WorkerSetup = JSON.parse(process.argv[2] ?? '{}');
const { firestoreHost, pubsubHost, projectId, topic, skewMs, port, dieAt, dieOn } = setup;
let reached = 0;

/** The process ends inside this call when it is the chosen occurrence of the chosen step. */
function step(name: Step): void {
  if (name === dieAt && ++reached === dieOn) process.kill(process.pid, 'SIGKILL');
}

function mortal(store: Store): Store {
  return {
    ...store,
    async commit(writes, options) {
      const name = nameOf(writes);
      if (name === 'record') step('before record');
      if (name === 'apply') step('before apply');
      const versions = await store.commit(writes, options);
      if (name === 'record') step('after record');
      if (name === 'mark') step('after mark');
      if (name === 'apply') step('after apply');
      return versions;
    },
  };
}

function nameOf(writes: readonly Write[]): 'record' | 'mark' | 'apply' | undefined {
  if (writes.some(({ ref }) => ref.collection === 'deployments')) return 'apply';
  if (writes.some((write) => write.ref.collection === 'outbox' && 'delete' in write)) return 'mark';
  return writes.some(({ ref }) => ref.collection === 'events') ? 'record' : undefined;
}

const config = loadConfig({
  GATEWAY_LIMITS: '1000000/minute',
  FIRESTORE_EMULATOR_HOST: firestoreHost,
  PUBSUB_EMULATOR_HOST: pubsubHost,
  GOOGLE_CLOUD_PROJECT: projectId,
});
const clock = { now: () => Date.now() + skewMs, monotonic: () => performance.now() };
const store = mortal(createFirestoreStore({ projectId, emulatorHost: firestoreHost, clock }));
const bus = createPubsubBus({ projectId, topic, emulatorHost: pubsubHost });
const services = await createServices(config, {
  log: createLogger({ format: 'json', write: (text) => process.stderr.write(text) }),
  clock,
  store,
  bus: {
    ...bus,
    async publish(event, options) {
      const sent = await bus.publish(event, options);
      step('after publish');
      return sent;
    },
  },
});

const webhook = createWebhookHandler(services, createGateway(services, new Map()));
const deployments = createDeploymentsHandler(services);
const server = createServer((req, res) => void (req.url === '/deployments' ? deployments : webhook)(req, res));
process.on('disconnect', () => process.exit());
// The first call on a connection pays for the connection; no test here is about that.
await Promise.all([store.ping({ timeoutMs: 30_000 }), bus.warm()]);
server.listen(port, '127.0.0.1', () => process.send?.({ ready: true }));
