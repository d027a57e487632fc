// The bundle of the sandbox service contains nothing that handles credentials or documents, and starts with nothing but
// its own few variables.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Bundles, findBundles, startSandbox } from '../../support/fixtures/gateway/bundles.ts';
import { TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';

describe('the bundle of the sandbox service', () => {
  let bundles: Bundles;
  let data: string;
  let inputs: readonly string[];
  beforeAll(async () => {
    bundles = await findBundles();
    data = await mkdtemp(join(tmpdir(), 'sandbox-bundle-'));
    inputs = Object.keys(JSON.parse(await readFile(bundles.metafiles.sandbox, 'utf8')).inputs);
  }, 120_000);
  afterAll(() => rm(data, { recursive: true }));

  it('the bundle of the sandbox service has no store, keys, limits, conversations, providers or methods, and of Google’s code only the check of tokens', () => {
    const own = inputs.filter((file) => /^(shared|functions)\//.test(file));
    const rooms = [...new Set(own.map((file) => file.split('/').slice(0, 2).join('/')))];
    expect(rooms.filter((room) => !room.endsWith('.ts')).toSorted()).toEqual([
      ...['functions/sandbox', 'functions/server', 'shared/auth', 'shared/bounds', 'shared/codex-host'],
      ...['shared/config', 'shared/json', 'shared/mcp', 'shared/messages', 'shared/rpc', 'shared/sandbox'],
      ...['shared/sandbox-link', 'shared/sandbox-ports', 'shared/telemetry', 'shared/terminals'],
    ]);
    expect(own.filter((file) => file.startsWith('shared/auth/'))).toEqual(['shared/auth/oidc.ts']);
    const packages = new Set(inputs.flatMap((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? []));
    expect(
      [...packages].filter((name) => /^@google|^@ai-sdk|google-gax|protobuf|modelcontextprotocol/.test(name)),
    ).toEqual([]);
    expect(packages).toContain('google-auth-library');
  });

  it('the image of the sandbox service installs exact versions', async () => {
    const { dependencies } = JSON.parse(await readFile(join(bundles.sandbox, 'package.json'), 'utf8'));
    expect(Object.keys(dependencies)).toEqual(expect.arrayContaining(['@lydell/node-pty', '@openai/codex']));
    for (const version of Object.values(dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+/);
  });

  it('the bundle of the sandbox service serves health, and drains on SIGTERM', async () => {
    const env = { SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: data };
    const { child, url, exited, output } = await startSandbox(bundles, env);
    expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'healthy' });
    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
    expect(output()).not.toContain(TOKEN);
  });

  it.each([
    ['no credential', {}],
    ['two kinds of it', { SANDBOX_TOKEN: TOKEN, SANDBOX_AUDIENCE: 'a', SANDBOX_CALLERS: 'a@example.com' }],
  ])('the bundle of the sandbox service does not start with %s, and names the variable in one line', async (_, env) => {
    await expect(startSandbox(bundles, env)).rejects.toThrow(
      /^ended before it was ready: configuration is not valid:\n {2}SANDBOX_TOKEN: must be set, or SANDBOX_AUDIENCE [^\n]+$/,
    );
  });
});
