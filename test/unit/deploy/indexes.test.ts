// Firestore refuses a query without its index, in production only: the emulator answers all of them. So the queries of
// the code are held against the indexes of the deployment here.
import { expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Query, Store } from '../../../shared/store/store.ts';
import { listDeployments, listEvents } from '../../../shared/webhooks/feed/list.ts';
import { dueEntries } from '../../../shared/webhooks/outbox.ts';
import { matches, read, readIndexes, sources } from '../../support/fixtures/project.ts';

const { indexes, fieldOverrides } = readIndexes();

/** Read once by the health check, never written. */
const UNWRITTEN = new Set(['health']);
const collections = [...matches(sources(), /collection: '([a-z_]+)'/g)].filter((name) => !UNWRITTEN.has(name));

it('serves every query of the code from an index', async () => {
  const asked = await askEverything();
  for (const query of asked) expect(isServed(query), JSON.stringify(query)).toBe(true);
  const written = matches(
    sources().replace(/\s+/g, ' '),
    /collection: '(\w+)',(?: where: \{[^}]*\},)? orderBy: '\w+'/g,
  );
  expect(new Set(asked.map(({ collection }) => collection))).toEqual(written);
});

it('tells a query that no index serves', () => {
  expect(isServed({ collection: 'events', orderBy: 'source', limit: 1 })).toBe(false);
  expect(isServed({ collection: 'outbox', orderBy: 'due_at_ms', direction: 'desc', limit: 1 })).toBe(false);
  expect(isServed({ collection: 'turns', where: { model: 'm' }, orderBy: 'started_at', limit: 1 })).toBe(false);
});

it('indexes no other field of any collection, and deletes what has expired in each', () => {
  for (const collection of collections) {
    const overrides = fieldOverrides.filter(({ collectionGroup }) => collectionGroup === collection);
    const byPath = new Map(overrides.map((override) => [override.fieldPath, override]));
    expect(byPath.get('data')?.indexes, `${collection}: data`).toEqual([]);
    expect(byPath.get('expire_at'), `${collection}: expire_at`).toMatchObject({ ttl: true, indexes: [] });
  }
});

it('gives Terraform and the Firebase CLI one file of indexes and one of rules', () => {
  const firestore = read('terraform/firestore.tf');
  const config = JSON.parse(read('firebase.json'));
  expect(config.firestore.indexes).toBe('terraform/firestore.indexes.json');
  expect(config.firestore.rules).toBe('terraform/firestore.rules');
  expect(matches(firestore, /file\("\$\{path\.module\}\/([^"]+)"\)/g)).toEqual(
    new Set(['firestore.indexes.json', 'firestore.rules']),
  );
  expect(read('terraform/firestore.rules')).toMatch(/match \/\{document=\*\*\} \{\s*allow read, write: if false;\s*\}/);
  expect(read('terraform/firestore.rules').match(/\ballow\b/g)).toHaveLength(1);
});

const NO_OPTIONS = { model: undefined, instructions: undefined, idempotencyKey: undefined };

/**
 * Whether an index of the file answers the query: a composite one where it filters, else one on the field it orders by.
 */
function isServed({ collection, where = {}, orderBy, direction = 'asc' }: Query): boolean {
  const order = direction === 'asc' ? 'ASCENDING' : 'DESCENDING';
  const filters = Object.keys(where).map((field) => `data.${field}`);
  if (filters.length === 0) {
    return fieldOverrides.some(
      (override) =>
        override.collectionGroup === collection &&
        override.fieldPath === `data.${orderBy}` &&
        override.indexes.some((index) => index.order === order),
    );
  }
  return indexes.some(({ collectionGroup, fields }) => {
    const equal = fields.slice(0, -1).map(({ fieldPath }) => fieldPath);
    const last = fields.at(-1);
    return (
      collectionGroup === collection &&
      equal.length === filters.length &&
      filters.every((field) => equal.includes(field)) &&
      last?.fieldPath === `data.${orderBy}` &&
      last.order === order
    );
  });
}

/** The queries that the gateway's parts send, from the parts themselves on an embedded store. */
async function askEverything(): Promise<Query[]> {
  const asked: Query[] = [];
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', MODEL: 'offline/echo' });
  const embedded = createEmbeddedStore({ path: ':memory:', clock: { now: () => Date.now() } });
  const store: Store = {
    ...embedded,
    query: (query, options) => {
      asked.push(query);
      return embedded.query(query, options);
    },
  };
  const services = await createServices(config, { store });
  try {
    const { conversations } = services;
    const turn = await conversations.prompt(
      { owner: 'default', sessionId: 's', prompt: 'Hello', onBusy: 'reject', ...NO_OPTIONS },
      AbortSignal.timeout(5_000),
    );
    await turn.done;
    await conversations.list('default', undefined, 1);
    await conversations.delete('default', 's');
    for (const order of ['newest', 'oldest'] as const) {
      await listEvents(store, { order, limit: 1 });
      await listEvents(store, { order, limit: 1, event: 'deployment.success' });
    }
    await listDeployments(store, { limit: 1 });
    await dueEntries(store, Date.now(), 1);
  } finally {
    await services.close();
    await embedded.close();
  }
  return asked;
}
