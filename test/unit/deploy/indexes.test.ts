// Every query of the code has an index in the deployment. Firestore refuses a query without its index in production
// only, while the emulator answers all of them.
import { expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { eraseOwner } from '../../../shared/owners/erase-owner.ts';
import { exportOwner } from '../../../shared/owners/export-owner.ts';
import type { QueryShape } from '../../../shared/store/define-document.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Query, Store } from '../../../shared/store/store.ts';
import { listDeployments, listEvents } from '../../../shared/webhooks/feed/list.ts';
import { dueEntries } from '../../../shared/webhooks/outbox.ts';
import { DOCUMENT_TYPES } from '../../support/fixtures/database/document-types.ts';
import { matches, read, readIndexes, sources } from '../../support/fixtures/project.ts';

const { indexes, fieldOverrides } = readIndexes();

const definitions = DOCUMENT_TYPES.map(({ definition }) => definition);

it('every declared query has an index, and there is no other index', () => {
  for (const { collection, queries = [] } of definitions) {
    for (const shape of queries) expect(isServed({ ...toQuery(shape), collection }), collection).toBe(true);
  }
  const declared = definitions.flatMap(({ collection, queries = [] }) =>
    queries.flatMap(({ where = [], orderBy }) => (where.length > 0 ? [] : [`${collection}.data.${orderBy}`])),
  );
  const single = fieldOverrides.filter((override) => override.indexes.length > 0);
  expect(new Set(single.map(({ collectionGroup, fieldPath }) => `${collectionGroup}.${fieldPath}`))).toEqual(
    new Set(declared),
  );
  const composite = definitions.flatMap(({ queries = [] }) => queries.filter(({ where = [] }) => where.length > 0));
  expect(indexes).toHaveLength(composite.length);
});

it('every query that the code sends is declared', async () => {
  const queries = await collectQueries();
  const shapes = (list: readonly Query[]) =>
    new Set(
      list.map(
        ({ collection, where = {}, contains, orderBy, direction = 'asc' }) =>
          `${collection} ${Object.keys(where).join()} ${contains?.field} ${orderBy} ${direction}`,
      ),
    );
  const declared = definitions.flatMap(({ collection, queries = [] }) =>
    queries.map((shape) => ({ ...toQuery(shape), collection })),
  );
  expect(shapes(queries)).toEqual(shapes(declared));
});

it('a collection is named only where its documents are declared', () => {
  // `health/ping` is read by the health check and never written.
  const named = [...sources().matchAll(/collection: '([a-z_]+)'/g)].map(([, name]) => name);
  expect(named.toSorted()).toEqual([...definitions.map(({ collection }) => collection), 'health'].toSorted());
});

it('a query that no index serves is found', () => {
  expect(isServed({ collection: 'events', orderBy: 'source', limit: 1 })).toBe(false);
  expect(isServed({ collection: 'outbox', orderBy: 'due_at_ms', direction: 'desc', limit: 1 })).toBe(false);
  expect(isServed({ collection: 'turns', where: { model: 'm' }, orderBy: 'started_at', limit: 1 })).toBe(false);
});

it('no other field of any collection is indexed, and expired documents are deleted in each', () => {
  for (const { collection } of definitions) {
    const overrides = fieldOverrides.filter(({ collectionGroup }) => collectionGroup === collection);
    const byPath = new Map(overrides.map((override) => [override.fieldPath, override]));
    expect(byPath.get('data')?.indexes, `${collection}: data`).toEqual([]);
    expect(byPath.get('expire_at'), `${collection}: expire_at`).toMatchObject({ ttl: true, indexes: [] });
  }
});

it('Terraform and the Firebase CLI use one file of indexes and one of rules', () => {
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

function toQuery({ where = [], contains, orderBy, direction }: QueryShape): Omit<Query, 'collection'> {
  const filters = Object.fromEntries(where.map((field) => [field, '']));
  const contained = contains && { contains: { field: contains, value: '' } };
  return { where: filters, ...contained, orderBy, limit: 1, ...(direction && { direction }) };
}

const NO_OPTIONS = { model: undefined, instructions: undefined, idempotencyKey: undefined };

/**
 * Whether an index of the file answers the query: a composite one where it filters, else one on the field it orders by.
 */
function isServed({ collection, where = {}, contains, orderBy, direction = 'asc' }: Query): boolean {
  const order = direction === 'asc' ? 'ASCENDING' : 'DESCENDING';
  const filters = Object.keys(where).map((field) => `data.${field}`);
  const contained = contains === undefined ? [] : [`data.${contains.field}`];
  if (filters.length === 0) {
    return fieldOverrides.some(
      (override) =>
        override.collectionGroup === collection &&
        override.fieldPath === `data.${orderBy}` &&
        override.indexes.some((index) => index.order === order),
    );
  }
  return indexes.some(({ collectionGroup, fields }) => {
    const before = fields.slice(0, -1);
    const equal = before.flatMap((field) => ('order' in field ? [field.fieldPath] : []));
    const arrays = before.flatMap((field) => ('arrayConfig' in field ? [field.fieldPath] : []));
    const last = fields.at(-1);
    return (
      collectionGroup === collection &&
      equal.length === filters.length &&
      filters.every((field) => equal.includes(field)) &&
      arrays.join() === contained.join() &&
      last?.fieldPath === `data.${orderBy}` &&
      'order' in last &&
      last.order === order
    );
  });
}

/** The queries that the gateway's parts send, from the parts themselves on an embedded store. */
async function collectQueries(): Promise<Query[]> {
  const queries: Query[] = [];
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', MODEL: 'offline/echo' });
  const embedded = createEmbeddedStore({ path: ':memory:', clock: { now: () => Date.now() } });
  const store: Store = {
    ...embedded,
    query: (query, options) => {
      queries.push(query);
      return embedded.query(query, options);
    },
  };
  let passedMs = 0;
  const clock = { now: () => Date.now() + passedMs, monotonic: () => performance.now() + passedMs };
  const services = await createServices(config, { store, clock });
  try {
    const { conversations } = services;
    const turn = await conversations.prompt(
      { owner: 'default', sessionId: 's', prompt: 'Hello', onBusy: 'reject', ...NO_OPTIONS },
      AbortSignal.timeout(5_000),
    );
    await turn.done;
    await conversations.list('default', { limit: 1 });
    await conversations.list('default', { limit: 1, metadata: { user: 'u1' } });
    await conversations.delete('default', 's');
    await services.erasures.sweep();
    passedMs = 3_600_000;
    await conversations.eraseExpired();
    for await (const { line } of exportOwner(services, 'default', undefined)) expect(line).toContain('type');
    await eraseOwner(services, 'default', AbortSignal.timeout(5_000));
    for (const order of ['newest', 'oldest'] as const) {
      await listEvents(store, { order, limit: 1 });
      await listEvents(store, { order, limit: 1, event: 'deployment.success' });
    }
    await listDeployments(store, { limit: 1 });
    await dueEntries(store, Date.now(), 1);
  } finally {
    await services.conversations.drain(0);
    await services.close();
    await embedded.close();
  }
  return queries;
}
