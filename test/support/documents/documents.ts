// Lists the documents of the repository and their generated parts. `npm run docs` writes these parts; a test compares
// them.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ERRORS } from '../../../shared/errors.ts';
import * as methods from '../../../shared/methods/index.ts';
import { DOCUMENT_TYPES } from '../fixtures/database/document-types.ts';
import { costTable } from './cost-table.ts';

const ROOT = join(import.meta.dirname, '../../..');

/** Every document that people write; the reports of benches and soak are written by these. */
export const DOCUMENTS = [
  'README.md',
  'functions/README.md',
  'shared/README.md',
  'shared/KNOWN-LIMITS.md',
  'shared/client/README.md',
  'terraform/README.md',
  'terraform/OPERATIONS.md',
  'terraform/COST.md',
  'test/README.md',
  '.github/CONTRIBUTING.md',
  '.github/CHANGELOG.md',
  '.github/SECURITY.md',
  '.github/PULL_REQUEST_TEMPLATE.md',
] as const;
export type DocumentPath = (typeof DOCUMENTS)[number];

/** What belongs between `<!-- name -->` and `<!-- /name -->`, by name and the document that has the section. */
const GENERATED = {
  methods: { document: 'README.md', make: methodTable },
  errors: { document: 'shared/README.md', make: errorTable },
  documents: { document: 'shared/README.md', make: documentTable },
  costs: { document: 'terraform/COST.md', make: costTable },
} as const;

export function readDocument(path: DocumentPath): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The document with its generated sections made anew. Throws when a marker is missing. */
export function render(path: DocumentPath): string {
  return Object.entries(GENERATED)
    .filter(([, { document }]) => document === path)
    .reduce((text, [name, { make }]) => fill(text, name, make()), readDocument(path));
}

function methodTable(): string {
  const rows = Object.values(methods)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((method) => {
      const { properties = {}, required = [] } = z.toJSONSchema(method.params, { io: 'input', unrepresentable: 'any' });
      const params = Object.keys(properties).map((name) => `\`${name}${required.includes(name) ? '' : '?'}\``);
      return `| \`${method.name}\` | ${method.scope ?? 'any'} | ${params.join(', ') || '-'} | ${method.summary} |`;
    });
  return ['| method | scope | params | does |', '|---|---|---|---|', ...rows].join('\n');
}

function errorTable(): string {
  const rows = Object.entries(ERRORS).map(
    ([reason, row]) =>
      `| ${row.code} | \`${reason}\` | ${row.status} | ${row.retryable ? 'yes' : 'no'} | ${row.message} |`,
  );
  return ['| code | reason | HTTP | retryable | message |', '|---|---|---|---|---|', ...rows].join('\n');
}

function documentTable(): string {
  const rows = DOCUMENT_TYPES.map(({ definition: { collection, id, holds, writtenBy, kept, format = 1 } }) => {
    return `| \`${collection}\` | ${id} | ${holds} | ${writtenBy} | ${kept} | ${format} |`;
  });
  return ['| collection | id | holds | written by | kept | format |', '|---|---|---|---|---|---|', ...rows].join('\n');
}

function fill(text: string, name: string, content: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [start, end] = [text.indexOf(open), text.indexOf(close)];
  if (start === -1 || end < start) throw new Error(`no document has a section ${open} ... ${close}`);
  return `${text.slice(0, start + open.length)}\n${content}\n${text.slice(end)}`;
}

if (process.argv[1] === import.meta.filename) {
  for (const path of DOCUMENTS) writeFileSync(join(ROOT, path), render(path));
}
