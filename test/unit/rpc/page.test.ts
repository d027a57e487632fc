// A page has at most 1 MiB as it is sent, the next one continues at its end, and the gateway reads no more than it
// sends. Checked through the real gateway.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { systemClock } from '../../../shared/clock.ts';
import { createPage } from '../../../shared/rpc/page.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';
import { applyDeploymentEvent } from '../../../shared/webhooks/deployments.ts';
import { eventWrite } from '../../../shared/webhooks/documents.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const MIB = 1 << 20;
let gateway: InProcessGateway;
/** Parts of long texts that were read from the store. */
let textsRead = 0;

beforeAll(async () => {
  const inner = createEmbeddedStore({ path: ':memory:', clock: systemClock });
  const store: Store = {
    ...inner,
    get(refs, options) {
      textsRead += refs.filter(({ collection }) => collection === 'texts').length;
      return inner.get(refs, options);
    },
  };
  gateway = await startInProcess({ GATEWAY_LIMITS: '100000/minute' }, { store });
});
afterAll(() => gateway.close());

interface Answer {
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: number; readonly data: Readonly<Record<string, unknown>> };
}

async function call(method: string, params: object): Promise<{ readonly bytes: number; readonly answer: Answer }> {
  const response = await fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': 'dev-key' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  return { bytes: bytes.length, answer: JSON.parse(String(bytes)) };
}

async function overSocket(method: string, params: object): Promise<Answer> {
  const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws`, { headers: { 'x-api-key': 'dev-key' } });
  const text = await new Promise<string>((resolve, reject) => {
    socket.once('message', (data) => resolve(String(data))).once('error', reject);
    socket.once('open', () => socket.send(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })));
  });
  socket.close();
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MIB);
  return JSON.parse(text);
}

/** All entries of a list in order, every page checked for its size. */
async function readAll(method: string, params: object, member: string, cursorParam: string): Promise<unknown[]> {
  const entries: unknown[] = [];
  for (let cursor: unknown; ; ) {
    const { bytes, answer } = await call(method, { ...params, ...(cursor !== undefined && { [cursorParam]: cursor }) });
    const found = answer.result?.[member];
    if (!Array.isArray(found)) throw new Error(JSON.stringify(answer.error));
    expect(found.length).toBeGreaterThan(0);
    if (found.length > 1) expect(bytes).toBeLessThanOrEqual(MIB);
    entries.push(...found);
    cursor = answer.result?.next_cursor;
    if (cursor === undefined) return entries;
  }
}

describe('conversation.history', () => {
  const ones = [
    'a'.repeat(400 << 10),
    `a${'\u0001'.repeat(170_000)}`,
    '€"\\'.repeat(100_000),
    'b'.repeat(40 << 10),
    'short',
  ];
  const prompts = [...ones, ...ones, `a${'\u0001'.repeat(174_000)}`, 'c'.repeat(900_000)];
  beforeAll(async () => {
    for (const prompt of prompts) await call('conversation.prompt', { prompt, session_id: 's' });
  });

  it('conversation.history ends a page by the bytes that are sent, and loses nothing', async () => {
    const messages = await readAll('conversation.history', { session_id: 's', limit: 200 }, 'messages', 'cursor');
    expect(messages).toHaveLength(prompts.length * 2);
    const userMessages = messages.filter((_, index) => index % 2 === 0);
    expect(userMessages.map((message) => (message as { readonly content: string }).content)).toEqual(prompts);
  });

  it('conversation.history reads little more than the page has', async () => {
    textsRead = 0;
    const session_id = 'fresh';
    for (let n = 0; n < 12; n++) await call('conversation.prompt', { prompt: 'x'.repeat(900_000), session_id });
    const other = await startInProcess({}, { store: gateway.services.store });
    textsRead = 0;
    const response = await fetch(`${other.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'conversation.history',
        params: { session_id, limit: 200 },
      }),
    });
    const { result } = (await response.json()) as Answer;
    expect(result?.messages).toHaveLength(2);
    // Two texts of four parts each.
    expect(textsRead).toBeLessThanOrEqual(8);
  });

  it('conversation.history over a socket names the next page where one message is more than a message of the socket', async () => {
    const session_id = 'wide';
    // 174,600 controls have 1,047,600 bytes as JSON; with what is around them the answer is too large for a socket.
    await call('conversation.prompt', { prompt: `a${'\u0001'.repeat(174_600)}`, session_id });
    const first = await overSocket('conversation.history', { session_id });
    expect(first.error).toMatchObject({ code: 413, data: { reason: 'payload_too_large', session_id, seq: 1 } });
    const next = await overSocket('conversation.history', { session_id, cursor: first.error?.data.next_cursor });
    expect(next.result?.messages).toMatchObject([{ seq: 2 }]);
  });
});

describe('events.list', () => {
  it('events.list ends a page by the bytes that are sent, and loses nothing; a larger event is a page by itself', async () => {
    const { store } = gateway.services;
    const now = Date.now();
    for (let n = 0; n < 30; n++) {
      // Numbers that are five times as long as they were sent.
      const text = n === 7 ? `[${Array.from({ length: 100_000 }, () => '1e20').join()}]` : `"${'x'.repeat(60_000)}"`;
      const document = {
        event: 'big',
        source: '/webhook/key/default',
        time: new Date(now).toISOString(),
        ordering_key: 'k',
        body: `{"event":"big","data":${text}}`,
        received_at_ms: now + n,
        state: 'sent' as const,
        message_id: null,
      };
      const id = `evt_${createHash('sha256').update(`big ${n}`).digest('base64url')}`;
      await store.commit([eventWrite(id, document)]);
    }
    for (const order of ['oldest', 'newest']) {
      const events = await readAll('events.list', { order, limit: 100, event: 'big' }, 'events', 'after');
      expect(events).toHaveLength(30);
    }
    const socketPages: unknown[] = [];
    for (let after: unknown; ; ) {
      const params = { event: 'big', order: 'oldest', limit: 100, ...(after !== undefined && { after }) };
      const { result, error } = await overSocket('events.list', params);
      socketPages.push(error?.code ?? (Array.isArray(result?.events) ? result.events.length : undefined));
      after = result?.next_cursor ?? error?.data.next_cursor;
      if (after === undefined) break;
    }
    expect(socketPages).toEqual([7, 413, 17, 5]);
  });
});

describe('deployment.list', () => {
  it('deployment.list ends a page by the bytes that are sent, and loses nothing', async () => {
    const services = Array.from({ length: 60 }, (_, n) => `service-${n}`);
    for (const service of services) {
      const body = JSON.stringify({ data: { service, version: 'v'.repeat(30_000), region: 'r', status: 's' } });
      const facts = { id: `evt_${service}`, type: 'deployment.success', source: '/s', orderingKey: service, body };
      const event = { ...facts, time: new Date().toISOString(), recordedAtMs: Date.now() };
      expect(await applyDeploymentEvent(gateway.services, event)).toBe('applied');
    }
    const listed = await readAll('deployment.list', { limit: 1000 }, 'deployments', 'after');
    expect(listed).toHaveLength(services.length);
    expect(listed).toEqual(expect.arrayContaining(services.map((service) => expect.objectContaining({ service }))));
  });
});

describe('mcp.list', () => {
  it('mcp.list ends a page by the bytes that are sent, and loses nothing', async () => {
    const { mcp } = gateway.services;
    const tool = { name: 'tool', description: 'd'.repeat(200_000), inputSchema: { type: 'object' } };
    const connections = Array.from({ length: 20 }, (_, n) => ({
      name: `server-${n}`,
      sessionId: undefined,
      transport: 'http' as const,
      server: { name: 's', version: '1' },
      protocolVersion: '2025-11-25',
      tools: [tool],
      omitted: [],
      connectedAtMs: Date.now(),
    }));
    const { list, refresh } = mcp;
    Object.assign(mcp, { list: () => connections, refresh: async () => {} });
    const servers = await readAll('mcp.list', {}, 'servers', 'cursor');
    Object.assign(mcp, { list, refresh });
    expect(new Set(servers.map((server) => (server as { name: string }).name)).size).toBe(20);
    expect(servers).toHaveLength(20);
  });
});

describe('a page', () => {
  it('a page takes the first entry whatever its size, and names the cursor to continue from where that cannot be sent', () => {
    const page = createPage<string>();
    expect(page.add('x'.repeat(2 * MIB))).toBe(true);
    expect(page.add('y')).toBe(false);
    expect(() => page.check(8 * MIB, 'next')).not.toThrow();
    expect(() => page.check(MIB, 'next', { seq: 1 })).toThrow(
      expect.objectContaining({
        reason: 'payload_too_large',
        data: expect.objectContaining({ next_cursor: 'next', seq: 1 }),
      }),
    );
  });
});
