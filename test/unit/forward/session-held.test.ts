// A session with something that only companions can use (MCP servers, a terminal) is served by a companion: its prompts
// and its end are forwarded, and no others.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { createCloudFixture, listen } from '../../support/fixtures/gateway/forward.ts';
import { createMcpListener } from '../../support/fixtures/sandbox/mcp-listener.ts';
import { describeWith } from '../../support/requirements.ts';

/** As jsonrpc has it. */
const DEPLOYED = { COMPANION_URL: 'https://ws-abc-uc.a.run.app' };
const MODEL = 'anthropic/claude-sonnet-4-5';
const PROMPT = '[[tool modern__add {"a": 2, "b": 40}]] add them';

describe('a session with MCP servers on the companion', async () => {
  const provider = await startModelProvider();
  const server = await listen(createMcpListener('modern'));
  const cloud = await createCloudFixture({
    ANTHROPIC_API_KEY: 'test',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL,
    MCP_SERVERS: JSON.stringify({ modern: { url: `${server.url}/mcp` } }),
  });
  afterAll(async () => {
    await cloud.close();
    server.close();
    await provider.close();
  });
  const connect = (session_id: string) => cloud.call('mcp.connect', { server_config: { name: 'modern' }, session_id });
  const prompt = async (session_id: string, text = PROMPT) => {
    const before = cloud.forwarded().length;
    const { result } = await cloud.call('conversation.prompt', { prompt: text, session_id });
    return {
      content: result?.content,
      events: JSON.stringify(result?.events),
      forwarded: cloud.forwarded().length - before,
    };
  };

  it('prompts over HTTP use the MCP tools of their session from the first one on; other sessions stay in the function', async () => {
    await connect('new');
    expect(await prompt('new')).toMatchObject({ content: 'The tool said: 42', forwarded: 1 });
    expect(await prompt('other', 'hello')).toMatchObject({ content: 'You said: hello', forwarded: 0 });
  });

  it('a session with MCP servers on the companion uses them too when it was warm in the function before they were connected, and no longer when they have been disconnected', async () => {
    expect(await prompt('warm', 'hello')).toMatchObject({ forwarded: 0 });
    await connect('warm');
    expect(await prompt('warm')).toMatchObject({ content: 'The tool said: 42', forwarded: 1 });
    await cloud.call('mcp.disconnect', { name: 'modern', session_id: 'warm' });
    expect(await prompt('warm', 'hello')).toMatchObject({ content: 'You said: hello', forwarded: 0 });
  });

  it('a session with MCP servers on the companion continues with them when the companion’s instance was recycled', async () => {
    await connect('recycled');
    await cloud.recycle();
    const first = await prompt('recycled');
    expect(first).toMatchObject({ content: 'The tool said: 42', forwarded: 1 });
    expect(first.events).not.toContain('mcp_lost');
  });

  it('a session with MCP servers on the companion ends them when it is deleted; the delete of another session is not forwarded', async () => {
    await connect('deleted');
    const servers = async () => (await cloud.call('mcp.list', { session_id: 'deleted' })).result?.servers;
    expect(await servers()).toHaveLength(1);
    expect((await cloud.call('conversation.delete', { session_id: 'deleted' })).result).toMatchObject({
      deleted: true,
    });
    expect(await servers()).toEqual([]);
    await prompt('plain', 'hello');
    const before = cloud.forwarded().length;
    await cloud.call('conversation.delete', { session_id: 'plain' });
    expect(cloud.forwarded()).toHaveLength(before);
  });
});

describeWith('bubblewrap', 'a session with a terminal on the companion', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'held-'));
  const cloud = await createCloudFixture({ GATEWAY_DATA_DIR: directory, PATH: process.env.PATH, ...DEPLOYED });
  afterAll(async () => {
    await cloud.close();
    await rm(directory, { recursive: true, force: true });
  });

  it('a session with a terminal on the companion is attached to at the address that the configuration names', async () => {
    const { result } = await cloud.call('interactive.start', { session_id: 'attached' });
    expect(result).toMatchObject({ attach: { url: 'wss://ws-abc-uc.a.run.app/ws' } });
  });

  it('a session with a terminal on the companion ends it when it is deleted', async () => {
    const session_id = 'tty';
    await cloud.call('conversation.prompt', { prompt: 'hello', session_id });
    expect((await cloud.call('interactive.start', { session_id })).result).toMatchObject({ resumed: false });
    expect((await cloud.call('conversation.delete', { session_id })).result).toMatchObject({ deleted: true });
    const { error } = await cloud.call('interactive.input', { session_id, data: 'x' });
    expect(error?.data.reason).toBe('not_found');
  });
});
