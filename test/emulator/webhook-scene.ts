// A project of its own for one test of the webhook pipeline: topic, push subscription to the deployments endpoint, processes, and a
// store to look at the outcome.
import { randomBytes } from 'node:crypto';
import { type DeploymentDocument, readDeployment } from '../../shared/events/deployments.ts';
import { type EventDocument, readEvent } from '../../shared/events/documents.ts';
import { openPubsub } from '../../shared/events/pubsub.ts';
import { createFirestoreStore } from '../../shared/store/firestore.ts';
import type { Store } from '../../shared/store/store.ts';
import { freePort, startWebhookProcess, type WebhookProcess, type WorkerSetup } from './webhook-processes.ts';

const TOPIC = 'gateway-events';

export interface Scene {
  readonly projectId: string;
  readonly store: Store;
  /** The first process gets the address that Pub/Sub pushes to; so does one that is started after its end. */
  start(options?: Pick<WorkerSetup, 'dieAt' | 'dieOn'> & { readonly skewMs?: number }): Promise<WebhookProcess>;
  /** Makes topic and push subscription; again after the emulator forgot them. */
  subscribe(): Promise<void>;
  close(): Promise<void>;
}

/** A fresh project on the emulators, with the subscription in place. */
export async function prepare(hosts: { readonly firestoreHost: string; readonly pubsubHost: string }): Promise<Scene> {
  const projectId = `demo-webhook-${randomBytes(6).toString('hex')}`;
  const store = createFirestoreStore({ projectId, emulatorHost: hosts.firestoreHost, clock: Date });
  const pushPort = await freePort();
  const running = new Set<WebhookProcess>();
  const scene: Scene = {
    projectId,
    store,
    async start({ skewMs = 0, ...options } = {}) {
      const port = running.size === 0 ? pushPort : await freePort();
      const process = await startWebhookProcess({ ...hosts, projectId, topic: TOPIC, port, skewMs, ...options });
      running.add(process);
      void process.ended.then(() => running.delete(process));
      return process;
    },
    async subscribe() {
      const client = await openPubsub({ projectId, emulatorHost: hosts.pubsubHost });
      try {
        const [topic] = await client.createTopic(TOPIC);
        await topic.createSubscription('deployments', {
          pushEndpoint: `http://127.0.0.1:${pushPort}/deployments`,
          enableMessageOrdering: true,
          ackDeadlineSeconds: 10,
        });
      } finally {
        await client.close();
      }
    },
    async close() {
      await Promise.all([...running].map((process) => process.stop()));
      await store.close();
    },
  };
  await scene.subscribe();
  return scene;
}

export async function deploymentsOf(store: Store): Promise<DeploymentDocument[]> {
  const found = await store.query({ collection: 'deployments', orderBy: 'service', limit: 1000 });
  return found.map(({ data }) => readDeployment(data));
}

export async function eventsOf(store: Store): Promise<EventDocument[]> {
  const found = await store.query({ collection: 'events', orderBy: 'received_at_ms', limit: 1000 });
  return found.flatMap(({ data }) => readEvent(data) ?? []);
}

export async function outboxSize(store: Store): Promise<number> {
  return (await store.query({ collection: 'outbox', orderBy: 'due_at_ms', limit: 1000 })).length;
}
