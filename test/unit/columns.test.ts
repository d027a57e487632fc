// Lines have at most 120 columns. The formatter breaks code (biome.json, `lineWidth`) but neither comments nor
// documents.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { withoutFences } from '../support/documents/code-blocks.ts';
import { ROOT } from '../support/fixtures/gateway/local-gateway.ts';

const COLUMNS_MAX = 120;
/** Below the root; a folder that is installed or built is left out. */
const SOURCES = '{*,.ci/*,.github/**/*,{functions,shared,terraform,test}/**/*}';
const NOT_WRITTEN_HERE = [
  ...['**/node_modules/**', '**/.terraform/**', 'dist/**', 'test/screenshots/**'],
  ...['shared/proto/gateway_pb.ts', '**/RESULTS.md', 'test/support/fixtures/reference/**'],
];
const COMMENT = /^\s*(\/\/|\/\*|\*|#)/;
/** A row of a table, and an address that begins its line, cannot be broken. */
const UNBREAKABLE = /^\s*((\/\/|\*|#) )?(\||["(]?https?:\/\/\S{20})/;

it.each([
  ['scripts and Terraform: every line', `{.ci/run,${SOURCES}.{sh,tf}}`, (text: string) => text.split('\n')],
  ['comments of sources', `${SOURCES}.{ts,js,hcl}`, commentsOf],
  ['documents, but for code blocks', `${SOURCES}.md`, withoutFences],
])(`lines have at most ${COLUMNS_MAX} columns: %s`, (_name, pattern, linesOf) => {
  const files = globSync(pattern, { cwd: ROOT, exclude: NOT_WRITTEN_HERE });
  expect(files.length).toBeGreaterThan(1);
  const long = files.flatMap((file) =>
    linesOf(readFileSync(join(ROOT, file), 'utf8')).flatMap((line, index) =>
      line.length <= COLUMNS_MAX || UNBREAKABLE.test(line) ? [] : [`${file}:${index + 1}`],
    ),
  );
  expect(long).toEqual([]);
});

/** Every other line is empty, so that line numbers stay. */
function commentsOf(source: string): string[] {
  return source.split('\n').map((line) => (COMMENT.test(line) ? line : ''));
}
