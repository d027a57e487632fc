// An MCP server that a caller has connected on one instance can be listed, called, disconnected and used by prompts on
// every other instance over the same store.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { systemClock, type WallClock } from '../../shared/clock.ts';
import { ownerRef } from '../../shared/mcp/records/connection-list.ts';
import { McpConnections, McpOwners } from '../../shared/mcp/records/documents.ts';
import type { Store } from '../../shared/store/store.ts';
import { startModelProvider } from '../support/fakes/model-provider/model-provider.ts';
import { listen } from '../support/fixtures/gateway/forward.ts';
import { type InProcessGateway, startInProcess } from '../support/fixtures/gateway/in-process.ts';
import { GREETER, registeredServers } from '../support/fixtures/sandbox/mcp.ts';
import { createMcpListener } from '../support/fixtures/sandbox/mcp-listener.ts';
import { processesWith } from '../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../support/requirements.ts';

interface Answer {
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly data: { readonly reason: string } };
}

const Servers = z.object({ servers: z.array(z.object({ name: z.string() })) });
const Turn = z.object({
  content: z.string(),
  events: z.array(z.object({ TaskStarted: z.record(z.string(), z.unknown()).optional() })),
});
const SUM = { content: [{ type: 'text', text: '42' }] };
const ADD = { tool: 'add', arguments: { a: 2, b: 40 } };
const KEYS = JSON.stringify({ keys: ['alice', 'bob'].map((id) => ({ id, key: `${id}-key` })) });

export function mcpInstanceCases(name: string, open: (clock: WallClock) => Store | Promise<Store>): void {
  describeWith('bubblewrap', `MCP servers on several instances, ${name}`, async () => {
    const marker = String(300_000_000 + Math.floor(Math.random() * 1e8));
    const gateways: InProcessGateway[] = [];
    const directory = await mkdtemp(join(tmpdir(), 'mcp-instances-'));
    const provider = await startModelProvider();
    const remote = await listen(createMcpListener('remote'));
    const store = await open(systemClock);
    const start = async (): Promise<InProcessGateway> => {
      const env = {
        ...{ ANTHROPIC_API_KEY: 'test', ANTHROPIC_BASE_URL: provider.url, MODEL: 'anthropic/claude-sonnet-4-5' },
        ...{ GATEWAY_STORE: 'embedded', GATEWAY_DATA_DIR: directory, GATEWAY_KEYS: KEYS, PATH: process.env.PATH },
        MCP_SERVERS: JSON.stringify({ ...registeredServers(['modern', 'huge'], marker), remote: { url: remote.url } }),
      };
      const gateway = await startInProcess(env, { store });
      gateways.push(gateway);
      return gateway;
    };
    const call = async (gateway: InProcessGateway, method: string, params: object, key = 'alice'): Promise<Answer> => {
      const response = await fetch(`${gateway.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'X-API-Key': `${key}-key`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
      });
      return (await response.json()) as Answer;
    };
    const connect = (gateway: InProcessGateway, server: string, session_id: string) =>
      call(gateway, 'mcp.connect', { server_config: { name: server }, session_id });
    const names = async (gateway: InProcessGateway, session_id: string, key?: string): Promise<unknown> => {
      const { result } = await call(gateway, 'mcp.list', { session_id }, key);
      return Servers.parse(result).servers.map((server) => server.name);
    };
    const prompt = async (gateway: InProcessGateway, session_id: string, tool?: string) => {
      const text = tool === undefined ? 'hello' : `[[tool ${tool} {"a": 2, "b": 40}]] add them`;
      const { result, error } = await call(gateway, 'conversation.prompt', { prompt: text, session_id });
      expect(error).toBeUndefined();
      const { content, events } = Turn.parse(result);
      return { content, started: events[0]?.TaskStarted };
    };
    let first: InProcessGateway;
    let second: InProcessGateway;
    beforeAll(async () => {
      [first, second] = await Promise.all([start(), start()]);
    });
    afterAll(async () => {
      await Promise.all(gateways.map((gateway) => gateway.close()));
      remote.close();
      await provider.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    });

    it('connections of one instance are listed and called on another one, and end on both when one disconnects them', async () => {
      expect(await connect(first, 'modern', 'both')).toMatchObject({ result: { name: 'modern', transport: 'stdio' } });
      expect(await connect(first, 'remote', 'both')).toMatchObject({ result: { name: 'remote', transport: 'http' } });
      expect(await names(second, 'both')).toEqual(['modern', 'remote']);
      for (const server of ['modern', 'remote']) {
        for (const gateway of [second, first]) {
          const params = { name: server, session_id: 'both', ...ADD };
          expect(await call(gateway, 'mcp.call', params)).toMatchObject({ result: SUM });
        }
        const handle = { name: server, session_id: 'both' };
        expect(await call(second, 'mcp.disconnect', handle)).toMatchObject({ result: { disconnected: true } });
        expect(await call(first, 'mcp.call', { ...handle, ...ADD })).toMatchObject({
          error: { data: { reason: 'not_found' } },
        });
      }
      expect(await names(first, 'both')).toEqual([]);
      // The process of the instance that connected it ends too, without a call there.
      await expect.poll(() => processesWith(marker)).toEqual([]);
    });

    it('connections are replaced by a connect on another instance: the first uses the new configuration', async () => {
      await connect(first, 'modern', 'again');
      await call(second, 'mcp.disconnect', { name: 'modern', session_id: 'again' });
      const params = { server_config: { name: 'modern' }, session_id: 'again', allowed_tools: ['nothing'] };
      expect(await call(second, 'mcp.connect', params)).toMatchObject({ result: { tools: [] } });
      expect(await call(first, 'mcp.call', { name: 'modern', session_id: 'again', ...ADD })).toMatchObject({
        error: { data: { reason: 'not_found' } },
      });
      await call(first, 'mcp.disconnect', { name: 'modern', session_id: 'again' });
    });

    it('connections of a caller are started again with the same variables, which are stored sealed', async () => {
      const greeter = { name: 'own', command: '/bin/sh', args: ['-c', GREETER], env: { GREETING: 'canary-greeting' } };
      const connected = await call(first, 'mcp.connect', { server_config: greeter });
      expect(connected).toMatchObject({ result: { tools: [{ name: 'greet' }] } });
      const [list] = await store.get([ownerRef('alice')]);
      const stored = McpOwners.read(list)?.connections.find((entry) => entry.name === 'own');
      const [document] = await store.get([McpConnections.ref(stored?.id ?? '')]);
      expect(McpConnections.read(document)).toMatchObject({ owner: 'alice', sealed: expect.anything() });
      expect(JSON.stringify([list, document])).not.toMatch(/canary-greeting|printf/);
      // The same configuration is the same connection, on any instance; another is a conflict.
      expect(await call(second, 'mcp.connect', { server_config: greeter })).toMatchObject({
        result: { connected_at: connected.result?.connected_at },
      });
      const other = { ...greeter, env: { GREETING: 'x' } };
      expect(await call(second, 'mcp.connect', { server_config: other })).toMatchObject({
        error: { data: { reason: 'conflict' } },
      });
      expect(await call(second, 'mcp.call', { name: 'own', tool: 'greet' })).toMatchObject({
        result: { content: [{ text: 'canary-greeting' }] },
      });
      await call(first, 'mcp.disconnect', { name: 'own' });
    });

    it('connections are used by prompts on another instance; a process that was started again is named once', async () => {
      await connect(first, 'modern', 'prompts');
      await connect(first, 'remote', 'prompts');
      const own = await prompt(first, 'prompts', 'modern__add');
      expect(own.content).toBe('The tool said: 42');
      expect(own.started).not.toHaveProperty('restarted_servers');
      const other = await prompt(second, 'prompts', 'modern__add');
      expect(other).toMatchObject({ content: 'The tool said: 42', started: { restarted_servers: ['modern'] } });
      const again = await prompt(second, 'prompts', 'remote__add');
      expect(again.content).toBe('The tool said: 42');
      expect(again.started).not.toHaveProperty('restarted_servers');
      expect(again.started).not.toHaveProperty('mcp_lost');
    });

    it('connections remain when the instance that connected them has ended', async () => {
      const ending = await start();
      await connect(ending, 'modern', 'restart');
      await ending.close();
      gateways.splice(gateways.indexOf(ending), 1);
      const { content, started } = await prompt(await start(), 'restart', 'modern__add');
      expect(content).toBe('The tool said: 42');
      expect(started).toMatchObject({ restarted_servers: ['modern'] });
    });

    it('connections are found by their owner only, and end with their session on every instance', async () => {
      await connect(first, 'remote', 'deleted');
      expect(await names(second, 'deleted', 'bob')).toEqual([]);
      for (const [method, params] of [
        ['mcp.call', ADD],
        ['mcp.disconnect', {}],
      ] as const) {
        const handle = { name: 'remote', session_id: 'deleted', ...params };
        expect(await call(second, method, handle, 'bob')).toMatchObject({ error: { data: { reason: 'not_found' } } });
      }
      await call(second, 'conversation.delete', { session_id: 'deleted' });
      expect(await names(first, 'deleted')).toEqual([]);
      expect(await call(first, 'mcp.call', { name: 'remote', session_id: 'deleted', ...ADD })).toMatchObject({
        error: { data: { reason: 'not_found' } },
      });
    });

    it('connections are at most eight of a key, over all instances', async () => {
      const answers = await Promise.all(
        Array.from({ length: 12 }, (_, n) =>
          call(
            n % 2 === 0 ? first : second,
            'mcp.connect',
            {
              ...{ server_config: { name: 'remote' }, session_id: `many-${n}` },
            },
            'bob',
          ),
        ),
      );
      const reasons = answers.map(({ error }) => error?.data.reason);
      expect(reasons.filter((reason) => reason === undefined)).toHaveLength(8);
      expect(reasons.filter((reason) => reason === 'unavailable')).toHaveLength(4);
      const { result } = await call(second, 'mcp.list', {}, 'bob');
      expect(result?.servers).toHaveLength(8);
    });

    it('connections of a version that did not store them are reported as lost, once', async () => {
      const session = { owner: 'alice', sessionId: 'old' };
      await first.services.conversations.markCompanionState(session, 'mcp', { isStarted: true });
      const lost = await prompt(second, 'old');
      expect(lost.started).toMatchObject({ mcp_lost: true });
      expect((await prompt(first, 'old')).started).not.toHaveProperty('mcp_lost');
    });
  });
}
