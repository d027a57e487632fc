// Reads the deployment's files for the tests beside it: sources as text, Terraform by the few shapes that the tests ask about.
import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';

export const ROOT = resolve(import.meta.dirname, '../../..');

export function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** All of the gateway's own sources, as one text. */
export function sources(): string {
  return globSync(['shared/**/*.ts', 'functions/**/*.ts'], { cwd: ROOT }).sort().map(read).join('\n');
}

/** All of the deployment, as one text. */
export function terraform(): string {
  return globSync('terraform/*.tf', { cwd: ROOT }).sort().map(read).join('\n');
}

/** What the first group of `pattern` matches, each once. */
export function matches(text: string, pattern: RegExp): Set<string> {
  return new Set(Array.from(text.matchAll(pattern), ([, name]) => name ?? ''));
}

const Order = z.enum(['ASCENDING', 'DESCENDING']);

/** `terraform/firestore.indexes.json`, in the form of the Firebase CLI. */
export const Indexes = z.strictObject({
  indexes: z.array(
    z.strictObject({
      collectionGroup: z.string(),
      queryScope: z.literal('COLLECTION'),
      fields: z.array(z.strictObject({ fieldPath: z.string(), order: Order })).min(2),
    }),
  ),
  fieldOverrides: z.array(
    z.strictObject({
      collectionGroup: z.string(),
      fieldPath: z.string(),
      ttl: z.literal(true).optional(),
      indexes: z.array(z.strictObject({ order: Order, queryScope: z.literal('COLLECTION') })),
    }),
  ),
});

export function readIndexes(): z.output<typeof Indexes> {
  return Indexes.parse(JSON.parse(read('terraform/firestore.indexes.json')));
}
