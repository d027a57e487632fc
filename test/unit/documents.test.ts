// The generated tables of the documents are up to date, and links lead to files and headings that exist.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { withoutFences } from '../support/documents/code-blocks.ts';
import { DOCUMENTS, readDocument, render } from '../support/documents/documents.ts';
import { ROOT } from '../support/fixtures/gateway/local-gateway.ts';

const README_LINES_MAX = 200;

it.each(DOCUMENTS)('the generated tables of a document are those of the code (npm run docs): %s', (path) => {
  expect(readDocument(path)).toBe(render(path));
});

it('every Markdown file is in the list of documents, but for the reports that benches and soak write', () => {
  const found = globSync('{*,.github/**/*,{functions,shared,terraform,test}/**/*}.md', {
    cwd: ROOT,
    exclude: ['**/node_modules/**', '**/RESULTS.md', 'test/screenshots/**'],
  });
  expect(found.toSorted()).toEqual([...DOCUMENTS].toSorted());
});

it(`the README has at most ${README_LINES_MAX} lines`, () => {
  expect(readDocument('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(README_LINES_MAX);
});

it.each(DOCUMENTS)('every link inside the repository leads to a file and a heading: %s', (path) => {
  const prose = withoutFences(readDocument(path)).join('\n');
  const targets = [...prose.matchAll(/\]\(([^)]+)\)/g)].map(([, target]) => target ?? '');
  const broken = targets.filter((target) => !/^https?:/.test(target) && !isThere(path, target));
  expect(broken).toEqual([]);
});

it('functions/README.md lists every event of a turn', () => {
  const source = readFileSync(join(ROOT, 'shared/turn-events.ts'), 'utf8');
  const events = Array.from(source.matchAll(/^ {2}readonly ([A-Z]\w+):/gm), ([, name]) => name);
  expect(events.length).toBeGreaterThan(15);
  expect(events.filter((name) => !readDocument('functions/README.md').includes(`\`${name}\``))).toEqual([]);
});

it('terraform/README.md names tests that exist', () => {
  const names = readDocument('terraform/README.md').matchAll(/`([\w./-]+\.(?:test\.ts|tftest\.hcl))`/g);
  const paths = Array.from(names, ([, name = '']) => (name.includes('/') ? name : `terraform/tests/${name}`));
  expect(paths.length).toBeGreaterThan(10);
  expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

function isThere(from: string, target: string): boolean {
  const [file = '', anchor] = target.split('#');
  const path = file === '' ? from : join(dirname(from), file);
  if (!existsSync(join(ROOT, path))) return false;
  return anchor === undefined || anchorsOf(readFileSync(join(ROOT, path), 'utf8')).includes(anchor);
}

/** As GitHub makes them of headings. */
function anchorsOf(markdown: string): string[] {
  return withoutFences(markdown)
    .filter((line) => /^#+ /.test(line))
    .map((line) =>
      line
        .replace(/^#+ /, '')
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    );
}
