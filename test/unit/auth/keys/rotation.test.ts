// The id of a key owns what a caller has, so another key of the same id, as after a rotation, finds all of it.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFuzzFixture, type FuzzFixture, MCP_NAMES } from '../../../support/fixtures/fuzz/gateway.ts';
import { describeWith } from '../../../support/requirements.ts';

/** Limits below 1,000 are never counted in blocks, so that what is left is exact. */
const KEYS = JSON.stringify({
  keys: [
    { id: 'app', key: 'old-key', limits: '900/day' },
    { id: 'app', key: 'new-key', limits: '900/day' },
  ],
});

let fixture: FuzzFixture;

async function call(key: string, method: string, params: object = {}): Promise<Record<string, unknown>> {
  const response = await fetch(`${fixture.gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': key },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const { result, error } = (await response.json()) as { result?: Record<string, unknown>; error?: unknown };
  expect(error, method).toBeUndefined();
  return result ?? {};
}
const withOld = (method: string, params?: object) => call('old-key', method, params);
const withNew = (method: string, params?: object) => call('new-key', method, params);

describe('after a rotation', () => {
  beforeAll(async () => {
    fixture = await createFuzzFixture({ env: { GATEWAY_KEYS: KEYS } });
  });
  afterAll(() => fixture.close());

  it('the new key has the sessions of the old one and its answers under idempotency keys', async () => {
    const prompt = { prompt: 'remember', session_id: 's', idempotency_key: 'once' };
    const answer = await withOld('conversation.prompt', prompt);
    expect(await withNew('conversation.prompt', prompt)).toEqual(answer);
    expect(await withNew('conversation.status', { session_id: 's' })).toMatchObject({ status: 'idle' });
    expect(await withNew('conversation.history', { session_id: 's' })).toMatchObject({
      messages: [{ content: 'remember', turn_id: answer.turn_id }, {}],
    });
    expect(await withNew('conversation.list')).toMatchObject({ conversations: [{ session_id: 's' }] });
  });

  it('the new key has the logins of the old one', async () => {
    const { session_id } = await withOld('auth.login', { provider: 'anthropic', credentials: { token: 'a-token' } });
    const prompt = { prompt: 'hi', auth_session_id: session_id };
    expect(await withNew('conversation.prompt', prompt)).toMatchObject({ model: expect.stringMatching(/^anthropic/) });
    expect(await withNew('auth.logout', { session_id })).toMatchObject({ logged_out: true });
  });

  it('the new key has the MCP connections of the old one', async () => {
    const [name] = MCP_NAMES;
    await withOld('mcp.connect', { server_config: { name } });
    expect(await withNew('mcp.list')).toMatchObject({ servers: [{ name }] });
    const sum = await withNew('mcp.call', { name, tool: 'add', arguments: { a: 1, b: 2 } });
    expect(sum).toMatchObject({ content: [{ text: '3' }] });
    expect(await withNew('mcp.disconnect', { name })).toMatchObject({ disconnected: true });
  });

  it('the new key has what is left of the limits of the old one', async () => {
    const left = async (key: string) => {
      const { windows } = (await call(key, 'auth.limits')) as { windows: { remaining: number }[] };
      return windows[0]?.remaining ?? Number.NaN;
    };
    const atFirst = await left('old-key');
    await withOld('conversation.list');
    await withNew('conversation.list');
    expect([await left('old-key'), await left('new-key')]).toEqual([atFirst - 2, atFirst - 2]);
  });
});

describeWith('bubblewrap', 'after a rotation, with a sandbox', () => {
  beforeAll(async () => {
    fixture = await createFuzzFixture({ env: { GATEWAY_KEYS: KEYS }, sandbox: true });
  });
  afterAll(() => fixture.close());

  it('the new key has the terminals and the files of the old one', async () => {
    await withOld('interactive.start', { session_id: 'tty' });
    expect(await withNew('interactive.close', { session_id: 'tty' })).toMatchObject({ closed: true });
    const run = { session_id: 's', command: 'sh' };
    await withOld('exec', { ...run, args: ['-c', 'echo kept > file'] });
    expect(await withNew('exec', { ...run, args: ['-c', 'cat file'] })).toMatchObject({ stdout: 'kept\n' });
  });
});
