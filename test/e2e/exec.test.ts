// `exec` and `apply` run commands and patches in the real gateway, over HTTP, SSE and WebSocket.
import { request } from 'node:http';
import { afterAll, beforeAll, expect, it } from 'vitest';
import WebSocket from 'ws';
import { type LocalGateway, startLocalGateway } from '../support/fixtures/gateway/local-gateway.ts';
import { processesWith } from '../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../support/requirements.ts';

const KEYS = JSON.stringify({
  keys: [
    { id: 'one', key: 'key-of-one-000000', scopes: ['workspace'] },
    { id: 'two', key: 'key-of-two-000000', scopes: ['workspace'] },
    { id: 'talker', key: 'key-of-talker-000', scopes: ['conversation'] },
  ],
});
const ONE = 'key-of-one-000000';
const TWO = 'key-of-two-000000';

const marker = (): string => `${300_000 + Math.floor(Math.random() * 1e8)}.${process.pid}`;

describeWith('bubblewrap', 'the workspace of a running gateway', () => {
  let gateway: LocalGateway;
  beforeAll(async () => {
    gateway = await startLocalGateway({
      env: { GATEWAY_KEYS: KEYS, GATEWAY_LOG: 'json', SECRET_OF_GATEWAY: 'hunter2' },
    });
  });
  afterAll(() => gateway.stop());

  const post = (method: string, params: object, key = ONE, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': key, ...headers },
      body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
    });
  const call = async (method: string, params: object, key?: string): Promise<unknown> =>
    (await post(method, params, key)).json();
  const sh = (script: string, key?: string): Promise<unknown> =>
    call('exec', { command: 'sh', args: ['-c', script] }, key);

  it('exec answers the request of the reference', async () => {
    const params = { command: 'echo', args: ['Hello from Codex Gateway'], env: { ENV_VAR: 'value' }, cwd: '/tmp' };
    expect(await call('exec', params)).toMatchObject({
      id: 1,
      result: { stdout: 'Hello from Codex Gateway\n', stderr: '', exit_code: 0, timed_out: false, truncated: false },
    });
  });

  it('the workspace of a running gateway keeps a repository between calls, patches it, and shows it to no other key', async () => {
    await call('exec', { command: 'git', args: ['init', '/tmp/repo'] });
    await sh('echo old content > /tmp/repo/file.txt');
    const patch = '--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-old content\n+new content';
    const files = [{ path: 'file.txt', change: 'modified', additions: 1, deletions: 1 }];
    const params = { patch, repo_path: '/tmp/repo', dry_run: false };
    expect(await call('apply', params, TWO)).toMatchObject({ error: { code: -32602 } });
    expect(await call('apply', params)).toMatchObject({ result: { applied: true, dry_run: false, files } });
    expect(await call('apply', params)).toMatchObject({
      error: { code: 409, data: { reason: 'patch_failed', file: 'file.txt', hunk: 1 } },
    });
    expect(await sh('cat /tmp/repo/file.txt')).toMatchObject({ result: { stdout: 'new content\n' } });
    expect(await sh('ls /tmp', TWO)).toMatchObject({ result: { stdout: '' } });
  });

  it('exec returns how a command ended: with its input, by a signal, at the time limit, with truncated output', async () => {
    expect(await call('exec', { command: 'cat', stdin: 'from stdin' })).toMatchObject({
      result: { stdout: 'from stdin', exit_code: 0 },
    });
    expect(await sh('kill -TERM $$')).toMatchObject({
      result: { exit_code: 143, signal: 'SIGTERM', timed_out: false, duration_ms: expect.any(Number) },
    });
    const place = { command: 'sh', args: ['-c', 'pwd; echo $ENV_VAR'], env: { ENV_VAR: 'value' }, cwd: '/tmp' };
    const { result } = Object(await call('exec', place));
    expect(result.stdout).toBe('/tmp\nvalue\n');
    expect(result).not.toHaveProperty('signal');
    expect(await call('exec', { command: 'sleep', args: ['60'], timeout_ms: 100 })).toMatchObject({
      result: { timed_out: true, exit_code: expect.any(Number) },
    });
    expect(await call('exec', { command: 'head', args: ['-c', '3000000', '/dev/zero'] })).toMatchObject({
      result: { truncated: true },
    });
  });

  it('apply with dry_run returns what a patch would change, and writes nothing', async () => {
    await sh('mkdir -p /tmp/dry && echo old > /tmp/dry/file.txt');
    const patch = '--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-old\n+new\n';
    expect(await call('apply', { patch, repo_path: '/tmp/dry', dry_run: true })).toMatchObject({
      result: { applied: false, dry_run: true, files: [{ path: 'file.txt', change: 'modified' }] },
    });
    expect(await sh('cat /tmp/dry/file.txt')).toMatchObject({ result: { stdout: 'old\n' } });
  });

  it('exec refuses dangerous variables with their path, and a key without the scope', async () => {
    const params = { command: 'env', env: { LD_PRELOAD: '/tmp/x.so', FINE: '1' } };
    expect(await call('exec', params)).toMatchObject({
      error: { code: -32602, data: { issues: [{ path: 'env.LD_PRELOAD' }] } },
    });
    expect(await call('exec', { command: 'env' }, 'key-of-talker-000')).toMatchObject({
      error: { code: 403, data: { missing_scope: 'workspace' } },
    });
    expect(await call('exec', { command: 'env' })).toMatchObject({
      result: { stdout: expect.not.stringMatching(/SECRET|hunter2|key-of|GATEWAY/) },
    });
  });

  it('exec streams output over SSE as the command writes it', async () => {
    const params = { command: 'sh', args: ['-c', 'echo one; sleep 0.1; echo two >&2; exit 3'], session_id: 's' };
    const response = await post('exec', params, ONE, { accept: 'text/event-stream' });
    const messages = (await response.text()).split('\n\n').flatMap((block) => {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      return data === undefined ? [] : [JSON.parse(data)];
    });
    expect(messages.map((message) => message.params?.event ?? message.result)).toMatchObject([
      { ExecCommandBegin: { command: ['sh', '-c', params.args[1]], cwd: '/home/user' } },
      { ExecCommandOutputDelta: { stream: 'stdout', chunk: 'one\n' } },
      { ExecCommandOutputDelta: { stream: 'stderr', chunk: 'two\n' } },
      { ExecCommandEnd: { exit_code: 3, timed_out: false } },
      { stdout: 'one\n', stderr: 'two\n', exit_code: 3 },
    ]);
    expect(messages.slice(0, 4).map((message) => message.params.seq)).toEqual([1, 2, 3, 4]);
    expect(messages.slice(0, 4).every(({ params: { session_id } }) => session_id === 's')).toBe(true);
  });

  it('exec over WebSocket answers a short command by its response alone, a long one with events', async () => {
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws`, { headers: { 'x-api-key': ONE } });
    const messages: { id?: number; params?: { event: object }; result?: object }[] = [];
    const answered = new Map<number, () => void>();
    socket.on('message', (data) => {
      const message = JSON.parse(String(data));
      messages.push(message);
      answered.get(message.id)?.();
    });
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    const sendExec = (id: number, params: object): Promise<void> => {
      socket.send(JSON.stringify({ jsonrpc: '2.0', method: 'exec', params, id }));
      return new Promise((resolve) => answered.set(id, resolve));
    };
    await sendExec(1, { command: 'echo', args: ['WebSocket test'] });
    expect(messages.splice(0)).toMatchObject([{ id: 1, result: { stdout: 'WebSocket test\n', exit_code: 0 } }]);
    await sendExec(2, { command: 'sh', args: ['-c', 'echo a; sleep 1.3'] });
    expect(messages.splice(0).map(({ params }) => Object.keys(params?.event ?? {})[0])).toEqual([
      ...['ExecCommandBegin', 'ExecCommandOutputDelta', 'ExecCommandEnd'],
      undefined,
    ]);
    await sendExec(3, { command: 'true', stream: true });
    expect(messages).toHaveLength(3);
    socket.close();
  });

  it('every command writes a log line with its arguments and end, without its output', async () => {
    await sh('echo a-secret-$((40 + 2)); exit 5');
    const find = (): string | undefined =>
      gateway
        .output()
        .split('\n')
        .find((text) => text.includes('"message":"command"') && text.includes('a-secret'));
    await until(async () => find() !== undefined);
    const line = find();
    expect(JSON.parse(line ?? '{}')).toMatchObject({
      key_id: 'one',
      method: 'exec',
      argv: ['sh', '-c', 'echo a-secret-$((40 + 2)); exit 5'],
      exit_code: 5,
      ms: expect.any(Number),
    });
    expect(gateway.output()).not.toContain('a-secret-42');
  });

  it('rpc.discover states which methods need the sandbox and that it is available', async () => {
    const methods = (await call('rpc.discover', {})) as {
      result: { methods: { name: string; 'x-available'?: boolean }[] };
    };
    const available = Object.fromEntries(methods.result.methods.map((method) => [method.name, method['x-available']]));
    expect(available).toMatchObject({ exec: true, apply: true, 'conversation.status': undefined });
  });

  it('a disconnect ends the command of the client', async () => {
    const mark = marker();
    const body = { jsonrpc: '2.0', method: 'exec', params: { command: 'sleep', args: [mark] }, id: 1 };
    const req = request(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': ONE, accept: 'text/event-stream' },
    });
    req.on('error', () => {});
    req.end(JSON.stringify(body));
    // The first event shows that the command runs.
    await new Promise((resolve) => req.once('response', (res) => res.once('data', resolve)));
    await until(async () => (await processesWith(mark)).length > 0);
    req.destroy();
    await until(async () => (await processesWith(mark)).length === 0);
  });

  it('no process of a command is left when the gateway is killed', async () => {
    const mark = marker();
    const other = await startLocalGateway({ env: { GATEWAY_API_KEY: ONE } });
    const hung = fetch(`${other.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': ONE },
      body: JSON.stringify({
        jsonrpc: '2.0',
        method: 'exec',
        params: { command: 'sh', args: ['-c', `setsid sleep ${mark} & sleep ${mark}`] },
        id: 1,
      }),
    }).catch(() => undefined);
    await until(async () => (await processesWith(`sleep\0${mark}`)).length === 2);
    other.child.kill('SIGKILL');
    await hung;
    await until(async () => (await processesWith(mark)).length === 0);
    await other.stop();
  });
});

/** The kernel sends no event about other processes, so this polls until it is so. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  await expect.poll(condition, { interval: 10 }).toBe(true);
}
