// The npm package of the client works as npm installs it: packed, unpacked into a project that has nothing else, run on
// the machine's Node and on the deployed one, and type-checked there.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildClient, methodTypes } from '../../../functions/cli/build.ts';
import { type LocalGateway, ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

const scratch = mkdtempSync(join(tmpdir(), 'client-package-'));
const project = join(scratch, 'project');
const installed = join(project, 'node_modules/codex-gateway-client');
let gateway: LocalGateway;

beforeAll(async () => {
  const [started] = await Promise.all([startLocalGateway(), buildClient(join(scratch, 'built'))]);
  gateway = started;
  run('npm', ['pack', '--pack-destination', scratch], join(scratch, 'built'));
  const tarball = readdirSync(scratch).find((name) => name.endsWith('.tgz')) ?? '';
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{"type": "module"}');
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', join(scratch, tarball)], project);
  process.stdout.write(`client: ${statSync(join(scratch, tarball)).size} bytes packed\n`);
});
afterAll(async () => {
  await gateway.stop();
  rmSync(scratch, { recursive: true });
});

function run(file: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    cwd,
    encoding: 'utf8',
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      HOME: scratch,
      GATEWAY_URL: gateway?.url,
      GATEWAY_KEY: 'dev-key',
    },
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${stdout}${stderr}`, { cause: error });
  return stdout;
}

/** The machine's Node: what PATH has without our own. */
function machineNode(): string {
  const path = (process.env.PATH ?? '').split(delimiter).filter((part) => !part.includes('node_modules'));
  const { stdout } = spawnSync('node', ['-p', 'process.execPath'], {
    encoding: 'utf8',
    env: { PATH: path.join(delimiter) },
  });
  return stdout.trim() || process.execPath;
}

const SCRIPT = `
import { CodexGatewayClient, GatewayError } from 'codex-gateway-client';
const client = new CodexGatewayClient(process.env.GATEWAY_URL, process.env.GATEWAY_KEY);
const raw = await client.conversationPrompt('Hello', 'packed');
const turn = client.stream({ prompt: 'again', session_id: 'packed' });
let text = '';
for await (const piece of turn.text()) text += piece;
const answer = await turn.answer();
const error = await client.call('conversation.history', { session_id: 'none' }).catch((thrown) => thrown);
console.log(JSON.stringify({
  type: raw.result.type, same: text === answer.content, hasEcho: text.includes('again'),
  error: error instanceof GatewayError && error.reason,
}));
`;

describe('the packed client', () => {
  it('the packed client works on the machine’s Node and on the deployed one, without dependencies', () => {
    writeFileSync(join(project, 'use.mjs'), SCRIPT);
    for (const node of new Set([machineNode(), process.execPath])) {
      const output = JSON.parse(run(node, ['use.mjs'], project));
      expect(output).toEqual({ type: 'ai_response', same: true, hasEcho: true, error: 'not_found' });
      process.stdout.write(`client on Node ${run(node, ['--version'], project).trim()}\n`);
    }
  });

  it('the packed client contains its program, which sends a prompt', () => {
    for (const node of new Set([machineNode(), process.execPath])) {
      const stdout = run(node, [join(installed, 'cli.js'), 'prompt', 'Hi', '--session', 'cli'], project);
      expect(stdout).toContain('Hi');
    }
  });

  it('the client needs no API that browsers lack, and contains no server code', () => {
    const files = readdirSync(installed).filter((name) => /^(index|chunk-.*)\.js$/.test(name));
    const code = files.map((name) => readFileSync(join(installed, name), 'utf8')).join('\n');
    expect(files.length).toBeGreaterThan(0);
    expect(code).not.toMatch(/node:|\bBuffer\b|\bprocess\.|require\(/);
    expect(code.length).toBeLessThan(40_000);
  });

  it('the packed client has types of its own: the reference’s example compiles, mistakes do not, and they are the registry’s', () => {
    const example = readFileSync(join(ROOT, 'test/support/fixtures/reference/gateway-client.ts.txt'), 'utf8');
    const usage = example.slice(example.indexOf('const GATEWAY_URL')).replace('process.env.GATEWAY_KEY!', "'dev-key'");
    writeFileSync(
      join(project, 'reference.ts'),
      `import { CodexGatewayClient } from 'codex-gateway-client';\n${usage}`,
    );
    writeFileSync(
      join(project, 'typed.ts'),
      `import { CodexGatewayClient, GatewayError, type Methods } from 'codex-gateway-client';
const client = new CodexGatewayClient('http://127.0.0.1:8080', 'dev-key', { streaming: 'websocket', WebSocket });
const answer = await client.call('conversation.prompt', { prompt: 'Hi', on_busy: 'queue' });
const tokens: number = answer.usage.total_tokens;
// @ts-expect-error: no such param
await client.call('conversation.prompt', { promt: 'Hi' });
// @ts-expect-error: no such method
await client.call('conversation.promt', { prompt: 'Hi' });
// @ts-expect-error: the result is not any
answer.contents;
for await (const { event } of client.stream('Hi')) event.AgentMessageDelta?.delta.trim();
export type Exec = Methods['exec']['result']['exit_code'];
export { GatewayError, tokens };
`,
    );
    const common = { strict: true, noEmit: true, target: 'es2022', module: 'nodenext', types: [] };
    check('consumer', { ...common, lib: ['es2022', 'dom', 'dom.iterable'] }, ['reference.ts', 'typed.ts']);

    // What is written out from the schemas is what the sources derive from them.
    writeFileSync(join(project, 'generated.ts'), methodTypes());
    writeFileSync(
      join(project, 'same.ts'),
      `import type { Methods as Source } from '${ROOT}/shared/client/methods.ts';
import type { Methods as Written } from './generated.ts';
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
type Different = { [Name in keyof Source | keyof Written]: Name extends keyof Source & keyof Written
  ? Same<Source[Name]['params'], Written[Name]['params']> extends true
    ? Same<Source[Name]['result'], Written[Name]['result']> extends true ? never : Name
    : Name
  : Name }[keyof Source | keyof Written];
export const none: [Different] extends [never] ? true : Different = true;
`,
    );
    check('same', { extends: join(ROOT, 'tsconfig.json'), typeRoots: [join(ROOT, 'node_modules/@types')] }, [
      'same.ts',
    ]);
  });
});

/** Throws with the compiler's complaints. */
function check(name: string, { extends: base, ...compilerOptions }: Record<string, unknown>, files: string[]): void {
  const config = { ...(base !== undefined && { extends: base }), compilerOptions, files, include: [] };
  writeFileSync(join(project, `${name}.json`), JSON.stringify(config));
  run(process.execPath, [join(ROOT, 'test/node_modules/typescript/bin/tsc'), '-p', `${name}.json`], project);
}
