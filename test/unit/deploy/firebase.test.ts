// firebase.json is valid by the Firebase CLI's own schema, and agrees with what Terraform deploys.
import { Ajv } from 'ajv';
import { expect, it } from 'vitest';
import { matches, read } from '../../support/fixtures/project.ts';

const config = JSON.parse(read('firebase.json'));
const validate = new Ajv({ strict: false, allErrors: true }).compile(
  JSON.parse(read('test/support/fixtures/firebase-config.json-schema')),
);

it('firebase.json is valid by the official schema', () => {
  validate(config);
  expect(validate.errors).toBeNull();
});

it('firebase.json would not be valid with a misspelt key', () => {
  expect(validate({ ...config, hostings: {} })).toBe(false);
  expect(validate({ ...config, hosting: { ...config.hosting, rewrites: [{ source: '/health', run: {} }] } })).toBe(
    false,
  );
});

it('firebase.json leads each endpoint to the service of its name, in the region that Terraform deploys to', () => {
  const rewrites: { source: string; run?: { serviceId: string; region: string } }[] = config.hosting.rewrites;
  const [region] = matches(read('terraform/variables.tf'), /variable "region" \{[^}]*?default\s+= "([^"]+)"/g);
  expect(rewrites.filter(({ run }) => run !== undefined)).toEqual(
    ['health', 'jsonrpc', 'webhook'].map((name) => ({ source: `/${name}`, run: { serviceId: name, region } })),
  );
});

it('firebase.json serves the console for every other path, and deploys no function', () => {
  expect(config.hosting.public).toBe('dist/console');
  expect(config.hosting.rewrites.at(-1)).toEqual({ source: '**', destination: '/index.html' });
  expect(config.functions).toBeUndefined();
});

it('browsers revalidate the page, and store no response of an endpoint', () => {
  const rules: { source: string; headers: { key: string; value: string }[] }[] = config.hosting.headers;
  const caching = rules.flatMap(({ source, headers }) =>
    headers.filter(({ key }) => key === 'Cache-Control').map(({ value }) => [source, value]),
  );
  // Of two rules for one path, Hosting takes the last.
  expect(caching).toEqual([
    ['**', 'no-cache'],
    ['/@(health|jsonrpc|webhook)', 'no-store'],
  ]);
});

it('firebase.json keeps the emulators on loopback, each on a port of its own', () => {
  const { firestore, pubsub, hosting } = config.emulators;
  const ports = new Set([firestore, pubsub, hosting].map(({ port }) => port));
  expect(ports.size).toBe(3);
  for (const { host } of [firestore, pubsub, hosting]) expect(host).toBe('127.0.0.1');
});
