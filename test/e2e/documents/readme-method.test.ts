// "Add a method" of shared/README.md is executed in a copy of the sources: one file and one line are enough, and the
// method has everything that the text states.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { kindOf, readCodeBlocks } from '../../support/documents/code-blocks.ts';
import { readDocument } from '../../support/documents/documents.ts';
import { type LocalGateway, ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

const REGISTRY_TESTS = 'test/unit/rpc/openrpc.test.ts';
const text = readDocument('shared/README.md');
const copy = mkdtempSync(join(tmpdir(), 'readme-method-'));
let gateway: LocalGateway;

beforeAll(async () => {
  const blocks = readCodeBlocks(text).filter((block) => kindOf(block) === 'method');
  expect(blocks).toHaveLength(1);
  for (const name of ['shared', 'functions', 'package.json', 'tsconfig.json', 'biome.json', REGISTRY_TESTS]) {
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  for (const modules of ['node_modules', 'test/node_modules']) symlinkSync(join(ROOT, modules), join(copy, modules));

  const [block] = blocks;
  writeFileSync(join(copy, block?.options.get('file') ?? ''), block?.text ?? '');
  const [, index = '', line = ''] =
    /^and in `(\S+)`, which is sorted by name: `(export \{ \w+ \} from .*;)`\./m.exec(text) ?? [];
  const lines = readFileSync(join(copy, index), 'utf8').split('\n');
  const place = lines.findIndex((other) => other.startsWith('export') && other > line);
  writeFileSync(join(copy, index), lines.toSpliced(place, 0, line).join('\n'));

  const command = [process.execPath, join(copy, 'functions/local/main.ts')] as const;
  gateway = await startLocalGateway({ command });
});
afterAll(async () => {
  await gateway.stop();
  rmSync(copy, { recursive: true });
});

const Document = z.object({ result: z.object({ methods: z.array(z.object({ name: z.string() })) }) });

async function call(method: string, params: object): Promise<unknown> {
  const response = await fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'dev-key' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  return response.json();
}

function run(...args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, {
    cwd: copy,
    encoding: 'utf8',
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, HOME: copy, CI: 'false' },
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stdout}${stderr}`, { cause: error });
}

it('a method added by the documents’ steps answers, validates its params, and is in rpc.discover', async () => {
  expect(await call('hello.world', { name: 'Ada' })).toMatchObject({ result: { greeting: 'Hello, Ada' } });
  expect(await call('hello.world', { name: '' })).toMatchObject({
    error: { code: -32602, data: { issues: [{ path: 'name' }] } },
  });
  const { result } = Document.parse(await call('rpc.discover', {}));
  expect(result.methods.map(({ name }) => name)).toContain('hello.world');
});

it('a method added by the documents’ steps passes the compiler, the linter and the tests over the registry', () => {
  const files = ['shared/methods/hello.world.ts'];
  writeFileSync(join(copy, 'method.json'), JSON.stringify({ extends: './tsconfig.json', files, include: [] }));
  run('test/node_modules/typescript/bin/tsc', '-p', 'method.json');
  run('test/node_modules/@biomejs/biome/bin/biome', 'check', '--vcs-enabled=false', 'shared/methods');
  run('test/node_modules/vitest/vitest.mjs', 'run', REGISTRY_TESTS);
}, 60_000);
