// The import rules of the house (which way the arrows run, who may know a Google SDK) are lint; this shows that the linter sees what it
// should, and lets through what it should.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const tree = mkdtempSync(join(tmpdir(), 'import-rules-'));
afterAll(() => rmSync(tree, { recursive: true }));

const FORBIDDEN: readonly (readonly [file: string, specifier: string])[] = [
  ['shared/rpc/a.ts', '../methods/index.ts'],
  ['shared/rpc/a.ts', '../auth/keys.ts'],
  ['shared/rpc/a.ts', '../services.ts'],
  ['shared/store/a.ts', '../rpc/parse.ts'],
  ['shared/store/a.ts', '@google-cloud/firestore'],
  ['shared/store/firestore-a.ts', '../events/event.ts'],
  ['shared/engines/a.ts', '../conversations/conversations.ts'],
  ['shared/engines/a.ts', '../store/store.ts'],
  ['shared/engines/codex/a.ts', '../../store/store.ts'],
  ['shared/rate-limit/a.ts', '../auth/keys.ts'],
  ['shared/auth/a.ts', '../rpc/method.ts'],
  ['shared/auth/a.ts', '@google-cloud/secret-manager'],
  ['shared/conversations/a.ts', '../methods/define-method.ts'],
  ['shared/conversations/a.ts', '../services.ts'],
  ['shared/events/a.ts', '../gateway.ts'],
  ['shared/events/a.ts', 'google-auth-library'],
  ['shared/workspace/a.ts', '../methods/index.ts'],
  ['shared/methods/a.ts', '../gateway.ts'],
  ['shared/methods/a.ts', '../../functions/http.ts'],
  ['shared/client/a.ts', '../config.ts'],
  ['shared/client/a.ts', '../rpc/parse.ts'],
  ['shared/client/a.ts', '../methods/exec.ts'],
  ['shared/client/a.ts', '@google-cloud/pubsub'],
  ['shared/a.ts', '../functions/http.ts'],
  ['shared/a.ts', '@google-cloud/pubsub'],
  ['functions/jsonrpc/a.ts', '../webhook/handler.ts'],
  ['functions/ws/a.ts', '../jsonrpc/event-stream.ts'],
  ['functions/jsonrpc/a.ts', '@google-cloud/pubsub'],
  ['functions/local/a.ts', '@google-cloud/pubsub'],
];

const ALLOWED: readonly (readonly [file: string, specifier: string])[] = [
  ['shared/rpc/b.ts', '../errors.ts'],
  ['shared/rpc/b.ts', './parse.ts'],
  ['shared/store/firestore-b.ts', '@google-cloud/firestore'],
  ['shared/events/pubsub-b.ts', '@google-cloud/pubsub'],
  ['shared/events/oidc.ts', 'google-auth-library'],
  ['shared/auth/secret-manager.ts', '@google-cloud/secret-manager'],
  ['shared/conversations/b.ts', '../engines/engine.ts'],
  ['shared/conversations/b.ts', '../store/store.ts'],
  ['shared/engines/codex/b.ts', '../../errors.ts'],
  ['shared/engines/codex/b.ts', '../engine.ts'],
  ['shared/rate-limit/b.ts', '../store/transact.ts'],
  ['shared/methods/b.ts', '../conversations/conversations.ts'],
  ['shared/client/b.ts', '../errors.ts'],
  ['shared/client/b.ts', '../methods/index.ts'],
  ['shared/client/b.ts', './http.ts'],
  ['shared/gateway.ts', './methods/define-method.ts'],
  ['functions/jsonrpc/b.ts', '../http.ts'],
  ['functions/jsonrpc/b.ts', '../../shared/gateway.ts'],
  ['functions/index.ts', './webhook/handler.ts'],
  ['functions/local/b.ts', '../webhook/handler.ts'],
];

/** Files of one import each, told apart by number, as the linter sees them in a tree with our configuration. */
function lint(imports: readonly (readonly [string, string])[], write: (specifier: string) => string): string[] {
  const files = imports.map(([file, specifier], n) => {
    const path = file.replace(/(?<=\/[ab]|-[ab])\.ts$/, `${n}.ts`);
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), write(specifier));
    return path;
  });
  for (const name of ['biome.json', '.gitignore']) cpSync(join(ROOT, name), join(tree, name));
  const { stdout } = spawnSync(
    join(ROOT, 'node_modules/.bin/biome'),
    ['lint', '--only=style/noRestrictedImports', '--reporter=github', '--max-diagnostics=none', ...files],
    { cwd: tree, encoding: 'utf8' },
  );
  return imports.filter((_, n) => stdout.includes(`/${files[n]},`)).map(([file, specifier]) => `${file}: ${specifier}`);
}

const named = (imports: typeof FORBIDDEN): string[] => imports.map(([file, specifier]) => `${file}: ${specifier}`);

it.each<readonly [string, (specifier: string) => string]>([
  ['import', (specifier) => `import { a } from '${specifier}';\na();\n`],
  ['type import', (specifier) => `import type { A } from '${specifier}';\nexport type B = A;\n`],
  ['dynamic import', (specifier) => `const { a } = await import('${specifier}');\na();\n`],
  ['re-export', (specifier) => `export { a } from '${specifier}';\n`],
])('each forbidden arrow is an error, however it is written: %s', (_name, write) => {
  expect(lint(FORBIDDEN, write)).toEqual(named(FORBIDDEN));
});

it('what the design allows is no error', () => {
  expect(lint(ALLOWED, (specifier) => `import { a } from '${specifier}';\na();\n`)).toEqual([]);
});

it('only the console knows a page: a dependency’s types have not brought the DOM into the whole program', () => {
  // @ts-expect-error: to the compiler, too, there is none.
  expect(globalThis.document).toBeUndefined();
});
