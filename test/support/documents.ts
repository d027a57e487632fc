// The generated parts of the README. `npm run docs` writes them, a test checks that they are fresh.
import { readFile, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { ERRORS } from '../../shared/errors.ts';
import * as methods from '../../shared/methods/index.ts';

export const README = new URL('../../README.md', import.meta.url);

/** The README with its marked sections made anew. Throws when a marker is missing. */
export function render(readme: string): string {
  return fill(fill(readme, 'methods', methodTable()), 'errors', errorTable());
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

function fill(text: string, name: string, content: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [start, end] = [text.indexOf(open), text.indexOf(close)];
  if (start === -1 || end < start) throw new Error(`README.md has no section ${open} ... ${close}`);
  return `${text.slice(0, start + open.length)}\n${content}\n${text.slice(end)}`;
}

if (import.meta.main) await writeFile(README, render(await readFile(README, 'utf8')));
