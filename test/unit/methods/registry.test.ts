// The table of methods keeps what callers rely on: the scope that each one needs, which of them cost no call, and that
// the params printed in the reference document are accepted as they are.
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import * as methods from '../../../shared/methods/index.ts';
import { createRegistry, isReadOnly } from '../../../shared/rpc/method.ts';

const registry = createRegistry(Object.values(methods));

/** Pinned: a method that changes its scope changes what existing keys may do. */
const SCOPES = {
  conversation: [
    'conversation.cancel',
    'conversation.delete',
    'conversation.fork',
    'conversation.history',
    'conversation.list',
    'conversation.prompt',
    'conversation.resume',
    'conversation.status',
    'conversation.update',
    'owner.erase',
    'owner.export',
    'proto',
  ],
  workspace: ['apply', 'exec', 'interactive.close', 'interactive.input', 'interactive.resize', 'interactive.start'],
  mcp: ['mcp.call', 'mcp.connect', 'mcp.disconnect', 'mcp.list'],
  auth: ['auth.login', 'auth.logout'],
  proxy: ['bff.proxy'],
  webhook: ['deployment.list', 'events.list', 'events.subscribe', 'events.unsubscribe'],
  admin: ['system.health'],
  null: ['auth.limits', 'auth.ticket', 'models.list', 'rpc.discover'],
};

/** Pinned: these are admitted, a few at a time, during an outage of the limiter's store. */
const CHEAP = [
  ...['auth.limits', 'conversation.history', 'conversation.list', 'conversation.resume', 'conversation.status'],
  ...['deployment.list', 'events.list', 'events.unsubscribe', 'mcp.list', 'models.list', 'owner.export'],
  ...['rpc.discover', 'system.health'],
];

/** The requests of the reference document, params as printed there. */
const PRINTED: readonly (readonly [string, object])[] = [
  ['conversation.prompt', { prompt: 'Write a Rust function that adds two numbers', session_id: 'my-session-123' }],
  ['conversation.status', { session_id: 'my-session-123' }],
  ['conversation.cancel', { session_id: 'my-session-123' }],
  ['exec', { command: 'echo', args: ['Hello from Codex Gateway'], env: { ENV_VAR: 'value' }, cwd: '/tmp' }],
  ['exec', { command: 'echo', args: ['Hello from Codex Gateway'] }],
  ['proto', { stream_id: 'session-123', data: 'CgVIZWxsbw==' }],
  ['mcp.connect', { server_config: { name: 'my-mcp-server', command: 'python', args: ['-m', 'mcp_server'] } }],
  ['apply', { patch: 'diff --git a/file.txt b/file.txt\n...', repo_path: '/tmp/repo', dry_run: false }],
  ['interactive.start', { session_id: 'tty-session-456', shell: '/bin/bash', cols: 80, rows: 24 }],
  ['auth.login', { provider: 'chatgpt', credentials: { token: 'user-token-from-chatgpt' } }],
  ['auth.logout', { session_id: 'session-xyz' }],
  [
    'bff.proxy',
    {
      endpoint: '/api/users',
      method: 'GET',
      headers: { Authorization: 'Bearer token' },
      query: { page: 1, limit: 10 },
    },
  ],
];

describe('the registry', () => {
  it.each(Object.entries(SCOPES))('the scope %s is required for these methods and no others', (scope, names) => {
    const found = [...registry.values()].filter((method) => String(method.scope) === scope);
    expect(found.map(({ name }) => name).sort()).toEqual(names);
  });

  it('the registry has a pinned scope for every method', () => {
    expect([...registry.keys()].sort()).toEqual(Object.values(SCOPES).flat().sort());
  });

  it('no call is charged for what clients need to know their limits, and for the keys of a terminal', () => {
    const free = [...registry.values()].filter(({ cost }) => cost === 'free').map(({ name }) => name);
    expect(free.sort()).toEqual(['auth.limits', 'interactive.input', 'interactive.resize', 'rpc.discover']);
  });

  it('the registry has names in snake_case on the wire, in params and results alike', () => {
    const names = [...registry.values()].flatMap(({ name, params, result }) =>
      [params, result].flatMap((schema) => propertyNames(z.toJSONSchema(schema)).map((property) => [name, property])),
    );
    expect(names.length).toBeGreaterThan(200);
    expect(names.filter(([, property]) => !/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(property ?? ''))).toEqual([]);
  });

  it('the registry lets only what reads pass while the limits cannot be counted: nothing that costs money or runs a command', () => {
    const cheap = [...registry.values()].filter(isReadOnly).map(({ name }) => name);
    expect(cheap.sort()).toEqual(CHEAP);
  });

  it.each(PRINTED)('the registry accepts the printed params of %s', (name, params) => {
    expect(registry.get(name)?.params.safeParse(params).error).toBeUndefined();
  });
});

/** Names of all properties of a JSON Schema, at any depth. */
function propertyNames(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const own = 'properties' in schema ? Object.keys(Object(schema.properties)) : [];
  return [...own, ...Object.values(schema).flatMap(propertyNames)];
}
