// The import rules find every import that breaks them, and the project has none.
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import {
  checkTree,
  findCycles,
  findForbidden,
  findForeignFixtures,
  importsOf,
  MODULES,
} from '../support/import-rules.ts';

it.each([
  ['shared/rpc/a.ts', '../methods/index.ts'],
  ['shared/rpc/a.ts', '../auth/keys/keys.ts'],
  ['shared/rpc/a.ts', '../services.ts'],
  ['shared/store/a.ts', '../rpc/parse.ts'],
  ['shared/store/embedded/a.ts', '../../engines/engine.ts'],
  ['shared/store/a.ts', '@google-cloud/firestore'],
  ['shared/store/embedded/a.ts', '@google-cloud/firestore'],
  ['shared/engines/codex/a.ts', '../../store/store.ts'],
  ['shared/engines/a.ts', '../conversations/conversations.ts'],
  ['shared/auth/a.ts', '../webhooks/event.ts'],
  ['shared/conversations/turns/a.ts', '../../services.ts'],
  ['shared/conversations/a.ts', '../methods/define-method.ts'],
  ['shared/sandbox/a.ts', '../store/store.ts'],
  ['shared/terminals/a.ts', '../mcp/connections.ts'],
  ['shared/sandbox-link/link/a.ts', '../../store/store.ts'],
  ['shared/sandbox-link/a.ts', '../auth/keys/keys.ts'],
  ['shared/terminals/a.ts', '../sandbox-link/link/link.ts'],
  ['shared/mcp/a.ts', '../sandbox/sandbox.ts'],
  ['shared/methods/a.ts', '../sandbox/bubblewrap.ts'],
  ['shared/webhooks/a.ts', '../gateway.ts'],
  ['shared/webhooks/a.ts', '../services.ts'],
  ['shared/webhooks/a.ts', 'google-auth-library'],
  ['shared/methods/a.ts', '../gateway.ts'],
  ['shared/methods/apply.ts', './exec.ts'],
  ['shared/proto/a.ts', '../methods/proto.ts'],
  ['shared/methods/a.ts', '../../functions/server/http.ts'],
  ['shared/client/a.ts', '../rpc/parse.ts'],
  ['shared/config/a.ts', '../auth/keys/keys.ts'],
  ['shared/errors.ts', './services.ts'],
  ['functions/jsonrpc/a.ts', '../webhook/handler.ts'],
  ['functions/companion/a.ts', '../jsonrpc/handler.ts'],
  ['functions/console/a.ts', '../../shared/gateway.ts'],
  ['functions/jsonrpc/a.ts', '@google-cloud/pubsub'],
  ['shared/new-module/a.ts', './b.ts'],
  ['shared/sandbox-link/a.ts', '../auth/keys/keys.ts'],
  ['functions/sandbox/a.ts', '../../shared/store/store.ts'],
  ['functions/sandbox/a.ts', '../../shared/engines/engine.ts'],
  ['functions/sandbox/a.ts', '../server/lifecycle/serve.ts'],
])('the module %s may not import %s', (file, specifier) => {
  expect(findForbidden(file, [specifier])).toHaveLength(1);
});

it.each([
  ['shared/rpc/a.ts', '../errors.ts'],
  ['shared/rpc/a.ts', './parse.ts'],
  ['shared/store/firestore/a.ts', '@google-cloud/firestore'],
  ['shared/webhooks/bus/pubsub.ts', '@google-cloud/pubsub'],
  ['shared/auth/oidc.ts', 'google-auth-library'],
  ['shared/sandbox-link/server/a.ts', '../../terminals/terminals.ts'],
  ['shared/sandbox-link/server/a.ts', '../../codex-host/codex-host.ts'],
  ['shared/conversations/turns/a.ts', '../../engines/engine.ts'],
  ['shared/conversations/turns/a.ts', '../records/documents.ts'],
  ['shared/methods/index.ts', './exec.ts'],
  ['shared/methods/apply.ts', './schemas/schemas.ts'],
  ['shared/methods/a.ts', '../conversations/conversations.ts'],
  ['shared/gateway.ts', './methods/define-method.ts'],
  ['functions/jsonrpc/a.ts', '../server/http.ts'],
  ['functions/local/a.ts', '../webhook/handler.ts'],
  ['shared/store/a.ts', 'zod'],
  ['shared/sandbox-link/a.ts', '../auth/oidc.ts'],
  ['functions/sandbox/a.ts', '../server/http.ts'],
])('the module %s may import %s', (file, specifier) => {
  expect(findForbidden(file, [specifier])).toEqual([]);
});

it.each([
  ['test/e2e/a.ts', '../unit/log.test.ts', 1],
  ['test/unit/http/a.ts', '../log.test.ts', 1],
  ['test/bench/a.ts', '../soak/fleet/faults.ts', 1],
  ['test/bench/calls/a.ts', '../support/bench.ts', 0],
  ['test/unit/a.ts', '../support/fixtures/database/emulators.ts', 0],
  ['test/unit/a.ts', '../cases/store/store.cases.ts', 0],
  ['test/unit/a.ts', '../../shared/log.ts', 0],
])('a fixture of %s belongs in test/support/fixtures: %s breaks the rules %i times', (file, specifier, violations) => {
  expect(findForeignFixtures(file, [specifier])).toHaveLength(violations);
});

it('imports are found in every form: static, of types, dynamic, re-exported, over several lines', () => {
  const source = `import { a } from './a.ts';
import type {
  B,
} from "./b.ts";
export { c } from './c.ts';
const d = await import('./d.ts');
type E = import('./e.ts').E;
import './f.css';`;
  expect(importsOf(source)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts', './f.css']);
});

it('a row of the table of modules names only rows above it, so that it has no cycle', () => {
  const rows = MODULES.map(([module]) => module);
  for (const [index, [, mayImport]] of MODULES.entries()) {
    const named = mayImport.filter((name) => !name.includes('*'));
    const paths = named.map((name) => (name.startsWith('functions/') ? name : `shared/${name}`));
    const modules = paths.map((path) => path.split('/').slice(0, 2).join('/'));
    expect(rows.slice(0, index)).toEqual(expect.arrayContaining(modules));
  }
});

it.each([
  ['files', { 'shared/a/b.ts': ['./c.ts'], 'shared/a/c.ts': ['./b.ts'] }, 1],
  ['folders', { 'shared/a/b.ts': ['../c/d.ts'], 'shared/a/e.ts': [], 'shared/c/d.ts': ['../a/e.ts'] }, 1],
  ['the interface of a module and its folder', { 'shared/a/b.ts': ['./c/d.ts'], 'shared/a/c/d.ts': ['../e.ts'] }, 0],
  ['a file of a module and its folder', { 'shared/a/b.ts': ['./c/d.ts'], 'shared/a/c/d.ts': ['../b.ts'] }, 2],
])('cycles of imports are found: %s', (_name, files, cycles) => {
  expect(findCycles(new Map(Object.entries(files)))).toHaveLength(cycles);
});

it('no file of the project breaks the import rules', () => {
  expect(checkTree(resolve(import.meta.dirname, '../..'))).toEqual([]);
});

it('the types of the page are kept out of the server: only functions/console has a DOM', () => {
  // @ts-expect-error: the compiler of the server has no `document`.
  expect(globalThis.document).toBeUndefined();
});
