// A turn that does not complete, or whose first model has failed, costs all that providers have counted, and an
// estimate of the call that was cut. The sum is the same whichever instance ends the turn, and in the daily usage.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationList } from '../../../../shared/methods/conversation.list.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import { mcpConnect } from '../../../../shared/methods/mcp.connect.ts';
import { createFakeMcpServer, type FakeMcpServer } from '../../../support/fakes/mcp-http-server.ts';
import type { Script } from '../../../support/fakes/model-provider/model-provider-script.ts';
import { listen } from '../../../support/fixtures/gateway/forward.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  type Stream,
} from '../../../support/fixtures/turns/conversations.ts';

const LEASE_MS = 20_000;
const FALLBACKS = ['anthropic/claude-next', 'anthropic/claude-last'];
/** The first call of a turn; no other call reports reasoning. */
const CALL: Script = { text: '', reasoningTokens: 500, toolCall: { name: 'tools__act', arguments: {} } };
const CUT: Script = { chunks: ['12345678', 'never'], hang: 'stream' };

let fixture: Fixture;
let server: FakeMcpServer;
let remote: Awaited<ReturnType<typeof listen>>;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  server = createFakeMcpServer();
  remote = await listen(server.listener);
  const MCP_SERVERS = JSON.stringify({ tools: { url: remote.url } });
  const env = { MCP_SERVERS, GATEWAY_LEASE_MS: String(LEASE_MS), GATEWAY_HEARTBEAT_MS: '200' };
  fixture = await createFixture({ env });
  a = await fixture.instance();
  b = await fixture.instance();
});
afterEach(async () => {
  remote.close();
  await fixture.close();
});

const connect = () => a.call(mcpConnect, { server_config: { name: 'tools' }, session_id: 's' });

/** Of the session, which is that of the day. */
async function usage() {
  const status = await b.call(conversationStatus, { session_id: 's' });
  if (!('metadata' in status)) throw new Error('the session is missing');
  await Promise.all([a, b].map((each) => each.services.conversations.ledger.flush()));
  const { usage_today } = await b.call(conversationList, {});
  expect(usage_today).toMatchObject(status.metadata.usage);
  return status.metadata.usage;
}

const ENDS = ['it is cancelled', 'another instance ends it'] as const;

/** Ends the turn after its first delta. */
async function end(running: Stream, how: (typeof ENDS)[number]): Promise<void> {
  await running.until(isDelta);
  if (how === 'it is cancelled') await a.call(conversationCancel, { session_id: 's' });
  else {
    const stored = async () => JSON.stringify((await b.call(conversationResume, { session_id: 's' })).events);
    // The events are stored within a second.
    await expect.poll(stored).toContain('AgentMessageDelta');
    a.line.state = 'down';
    fixture.clock.advance(LEASE_MS + 1);
    await b.call(conversationStatus, { session_id: 's' });
    a.line.state = 'up';
  }
  await failure(running.answer);
}

describe('a turn that does not complete costs what the provider has counted', () => {
  it.each<[string, Script, object]>([
    ['its answer does not match the schema', { text: '{"value": {"b": 1}}' }, { output_schema: false }],
    [
      'its answer is an object of another schema',
      { text: '{"b": 1}' },
      { output_schema: { type: 'object', required: ['a'] } },
    ],
    ['its answer has reasoning only, and is cut', { text: '', end: 'length' }, {}],
    ['its answer has reasoning only', { text: '' }, {}],
    ['the model declines', { text: '', end: 'refusal' }, {}],
    ['the model calls a tool where there is none', CALL, {}],
  ])('a turn costs what the provider has counted although it does not complete: %s', async (_, script, params) => {
    fixture.provider.behave(() => ({ ...script, reasoningTokens: 500 }));
    expect((await failure(a.prompt('hello', params))).reason).toBe('upstream_error');
    const counted = await usage();
    expect(counted).toMatchObject({ reasoning_tokens: 500 });
    expect(counted.input_tokens).toBeGreaterThan(0);
    expect(counted).not.toHaveProperty('estimated');
  });

  it('a turn costs what the provider has counted although it is cancelled while its tool runs', async () => {
    await connect();
    const held = Promise.withResolvers<void>();
    server.hold = held.promise;
    fixture.provider.behave(() => CALL);
    const running = a.stream('please');
    await running.until(({ event }) => 'McpToolCallBegin' in event);
    await a.call(conversationCancel, { session_id: 's' });
    await failure(running.answer);
    held.resolve();
    const counted = running.events.flatMap(({ event }) => ('TokenCount' in event ? [event.TokenCount] : []));
    expect(counted).toMatchObject([{ reasoning_tokens: 500 }]);
    expect(await usage()).toEqual(counted[0]);
  });

  it.each(ENDS)('a turn costs also an estimate of its second call, in which %s', async (how) => {
    await connect();
    fixture.provider.behave(({ toolResults }) => (toolResults.length === 0 ? CALL : CUT));
    const running = a.stream('please');
    await end(running, how);
    const counted = running.events.flatMap(({ event }) => ('TokenCount' in event ? [event.TokenCount] : []));
    const [context = 0] = running.events.flatMap(({ event }) =>
      'TaskStarted' in event ? [event.TaskStarted.context.tokens] : [],
    );
    const [{ input_tokens = 0, output_tokens = 0 } = {}] = counted;
    expect(await usage()).toEqual({
      input_tokens: input_tokens + context,
      output_tokens: output_tokens + 2,
      total_tokens: input_tokens + output_tokens + context + 2,
      reasoning_tokens: 500,
      estimated: true,
    });
  });
});

describe('what the provider has counted for a model that failed', () => {
  /** Its call of a tool that is missing is no answer yet. */
  const FIRST: Script = { ...CALL, toolCall: { name: 'missing', arguments: {} } };
  const behave = (next: Script): void =>
    fixture.provider.behave(({ model, toolResults }) => {
      if (model === 'claude-next' || model === 'claude-last') return next;
      return toolResults.length === 0 ? FIRST : { status: 403 };
    });

  it('the usage of a model that failed is part of the usage of its fallback, once', async () => {
    await connect();
    behave({ text: 'done' });
    const running = a.stream('please', { fallbacks: FALLBACKS });
    const answer = await running.answer;
    const counted = running.events.flatMap(({ event }) => ('TokenCount' in event ? [event.TokenCount] : []));
    expect(counted[0]).toMatchObject({ reasoning_tokens: 500 });
    expect(counted.map(({ reasoning_tokens }) => reasoning_tokens)).toEqual([500, 500]);
    expect(answer.usage).toEqual(counted[1]);
    expect(answer.usage.total_tokens).toBeGreaterThan(counted[0]?.total_tokens ?? 0);
    expect(await usage()).toEqual(answer.usage);
  });

  it.each(ENDS)('the usage of a model that failed is charged when the next one has begun and %s', async (how) => {
    await connect();
    behave(CUT);
    await end(a.stream('please', { fallbacks: FALLBACKS }), how);
    expect(await usage()).toMatchObject({ reasoning_tokens: 500, estimated: true });
  });

  it('the usage of a model that failed is charged when the turn is cancelled before the next one has begun', async () => {
    await connect();
    const called = Promise.withResolvers<void>();
    fixture.provider.behave(({ model, toolResults }) => {
      if (model !== 'claude-next') return toolResults.length === 0 ? FIRST : { status: 403 };
      called.resolve();
      return { hang: 'headers' };
    });
    const running = a.stream('please', { fallbacks: FALLBACKS });
    await called.promise;
    await a.call(conversationCancel, { session_id: 's' });
    await failure(running.answer);
    const counted = await usage();
    expect(counted).toMatchObject({ reasoning_tokens: 500 });
    expect(counted).not.toHaveProperty('estimated');
  });

  it('the usage of models that failed is charged when all of them fail', async () => {
    await connect();
    behave({ status: 403 });
    await failure(a.prompt('please', { fallbacks: FALLBACKS }));
    expect(await usage()).toMatchObject({ reasoning_tokens: 500 });
  });
});
