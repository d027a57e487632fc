// Every code block of the documents works when it is pasted: this suite runs them against one real gateway, started as
// the README says. Blocks for a cloud, a browser or a new method have suites of their own. A block of an unknown kind
// is a failure.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { buildClient } from '../../../functions/cli/build.ts';
import { type CodeBlock, type Kind, kindOf, readCodeBlocks } from '../../support/documents/code-blocks.ts';
import { DOCUMENTS, readDocument } from '../../support/documents/documents.ts';
import { runShell } from '../../support/documents/run-block.ts';
import { type LocalGateway, ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith, findPython } from '../../support/requirements.ts';

const PRINTED = '127.0.0.1:8080';
const scratch = mkdtempSync(join(tmpdir(), 'readme-'));
/** A project in which the client is installed. */
const project = join(scratch, 'project');
const CLIENT = 'shared/client/README.md';
const blocks = DOCUMENTS.filter((path) => path !== CLIENT).flatMap((path) => readCodeBlocks(readDocument(path)));
const clientBlocks = readCodeBlocks(readDocument(CLIENT));
const ofKind = (kind: Kind, from = blocks): CodeBlock[] => from.filter((block) => kindOf(block) === kind);
let gateway: LocalGateway;

beforeAll(async () => {
  const [keys] = ofKind('keys');
  const env = { GATEWAY_API_KEY: 'dev-key', GATEWAY_KEYS: keys?.text ?? '' };
  const [started] = await Promise.all([startLocalGateway({ command: ['npm', 'start'], env }), installClient()]);
  gateway = started;
});
afterAll(async () => {
  await gateway.stop();
  rmSync(scratch, { recursive: true });
});

async function installClient(): Promise<void> {
  const built = join(scratch, 'built');
  await buildClient(built);
  run('npm', ['pack', '--pack-destination', scratch], built);
  const tarball = readdirSync(scratch).find((name) => name.endsWith('.tgz')) ?? '';
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{"type": "module"}');
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', join(scratch, tarball)], project);
}

/** Throws when it fails; answers what it printed. */
function run(file: string, args: readonly string[], cwd: string): string {
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
    HOME: scratch,
    LANG: 'C.UTF-8',
  };
  const { status, stdout, stderr, error } = spawnSync(file, args, { cwd, env, encoding: 'utf8', timeout: 30_000 });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${stdout}${stderr}`, { cause: error });
  return stdout;
}

/** The block as it is, but for where the gateway is. */
const here = ({ text }: CodeBlock): string => text.replaceAll(PRINTED, `127.0.0.1:${gateway.port}`);
const named = (list: readonly CodeBlock[]) =>
  list.map((block) => [`${block.heading}, line ${block.line}`, block] as const);

it('every block is of a kind that is run', () => {
  const unknown = [...blocks, ...clientBlocks].filter((block) => kindOf(block) === undefined);
  expect(unknown).toEqual([]);
  expect(new Set(clientBlocks.map(kindOf))).toEqual(new Set(['typescript', 'shell']));
  expect(kindOf({ language: 'sh', options: new Map([['run', 'never']]) })).toBeUndefined();
  expect(kindOf({ language: '', options: new Map() })).toBeUndefined();
});

it('the blocks that install and start have the lines that CI and this test run, and the printed line beside them', () => {
  const [start, contribute, ...others] = ofKind('start');
  expect(others).toEqual([]);
  expect(commandsOf(start)).toEqual(['npm ci', 'npm start']);
  expect(commandsOf(contribute)).toEqual(['npm ci', 'npm start', 'npm run dev']);
  const [, printed = ''] = /npm start +# (.*)/.exec(start?.text ?? '') ?? [];
  expect(gateway.output()).toContain(printed.replace(PRINTED, `127.0.0.1:${gateway.port}`));
});

const Scripts = z.object({ scripts: z.object({ dev: z.string() }) });
const commandsOf = (block?: CodeBlock): string[] =>
  (block?.text ?? '')
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/ *#.*/, ''));

it('npm run dev serves the gateway, and again after a source has changed', async () => {
  const watched = mkdtempSync(join(scratch, 'watched-'));
  const [program, launcher = '', ...args] = Scripts.parse(
    JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')),
  ).scripts.dev.split(' ');
  expect(program).toBe('node');
  const command = [process.execPath, launcher, `--watch-path=${watched}`, ...args] as const;
  const dev = await startLocalGateway({ command });
  const startCount = (): number => dev.output().split('gateway ready at').length - 1;
  writeFileSync(join(watched, 'changed.ts'), '');
  await expect.poll(startCount).toBe(2);
  await dev.stop();
});

describeWith('shell', 'shell blocks', () => {
  const env = (): Record<string, string> => ({ GATEWAY_URL: gateway.url, GATEWAY_KEY: 'dev-key' });

  it.each(named(ofKind('shell')))(
    'every command of a shell block succeeds, and every answer is a result: %s',
    (_name, block) => {
      const { answers, stdout } = runShell(here(block), env());
      expect(answers).toBe(block.text.match(/^curl /gm)?.length ?? 0);
      expect(stdout).not.toBe('');
    },
  );

  it.each(named(ofKind('shell', clientBlocks)))('the client’s %s: every command succeeds', (_name, block) => {
    expect(runShell(here(block), env(), project).stdout).not.toBe('');
  });

  it('a shell block fails with an answer that is an error, and with a command that fails', () => {
    const call = (method: string): string => `curl -s "$GATEWAY_URL/jsonrpc" -H "X-API-Key: $GATEWAY_KEY" \
      -d '{"jsonrpc": "2.0", "id": 1, "method": "${method}"}'`;
    expect(() => runShell(call('no.such'), env())).toThrow('method_not_found');
    expect(() => runShell(`false; ${call('rpc.discover')}`, env())).toThrow('bash: 1');
    expect(runShell(call('auth.limits'), env()).answers).toBe(1);
  });
});

describe('the key document', () => {
  it('the key document of the documents gives its keys exactly their scopes and limits', async () => {
    const [block] = ofKind('keys');
    const { keys } = KeyDocument.parse(JSON.parse(block?.text ?? ''));
    const [web, ci] = keys;
    expect(await limitsOf(web?.key ?? '')).toEqual({ key_id: web?.id, scopes: web?.scopes, limits: web?.limits });
    // The printed digest is that of `test`.
    expect(await limitsOf('test')).toMatchObject({ key_id: ci?.id, scopes: ci?.scopes });
  });
});

const KeyDocument = z.object({
  keys: z.array(
    z.object({
      id: z.string(),
      key: z.string().optional(),
      scopes: z.array(z.string()),
      limits: z.string().optional(),
    }),
  ),
});
const Limits = z.object({
  result: z.object({
    key_id: z.string(),
    scopes: z.array(z.string()),
    windows: z.array(z.object({ window_seconds: z.number(), limit: z.number() })),
  }),
});
const UNITS: Readonly<Record<number, string>> = { 60: 'minute', 3600: 'hour', 86400: 'day' };

async function limitsOf(key: string): Promise<object> {
  const response = await fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': key },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'auth.limits' }),
  });
  const { windows, key_id, scopes } = Limits.parse(await response.json()).result;
  const limits = windows.map(({ limit, window_seconds }) => `${limit}/${UNITS[window_seconds]}`);
  return { key_id, scopes, limits: limits.join(',') };
}

describe('TypeScript blocks', () => {
  const all = [...ofKind('typescript'), ...ofKind('typescript', clientBlocks)];
  const file = (block: CodeBlock): string => `block-${all.indexOf(block)}.ts`;

  it('the TypeScript blocks compile against the packed client', () => {
    for (const block of all) writeFileSync(join(project, file(block)), here(block));
    const compilerOptions = {
      ...{ strict: true, noEmit: true, target: 'es2024', module: 'nodenext', skipLibCheck: true },
      ...{ types: ['node'], typeRoots: [join(ROOT, 'node_modules/@types')] },
    };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: all.map(file) }));
    run(process.execPath, [join(ROOT, 'test/node_modules/typescript/bin/tsc'), '-p', '.'], project);
  });

  const runIt = (block: CodeBlock): string => {
    writeFileSync(join(project, file(block)), here(block));
    return run(process.execPath, [file(block)], project);
  };
  it.each(named(all.filter(({ options }) => !options.has('needs'))))(
    'a TypeScript block runs to its end: %s',
    (_name, block) => {
      expect(runIt(block)).toMatch(/You said: .*haiku|not_found/);
    },
  );

  describeWith('bubblewrap', 'that need a sandbox', () => {
    it.each(named(all.filter(({ options }) => options.get('needs') === 'bubblewrap')))(
      'a TypeScript block that needs a sandbox runs to its end: %s',
      (_name, block) => {
        expect(runIt(block)).toMatch(/^42\r?$/m);
      },
    );
  });
});

describeWith('python', 'Python blocks', () => {
  it.each(named(ofKind('python')))('a Python block runs to its end: %s', (_name, block) => {
    expect(run(findPython() ?? '', ['-c', here(block)], scratch)).toContain('You said: Write a haiku');
  });
});
