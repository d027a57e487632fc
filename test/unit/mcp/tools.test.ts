// The text that a model reads of a tool's answer is bounded and well-formed.
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import type { McpResult } from '../../../shared/mcp/tools/result.ts';
import { toToolset } from '../../../shared/mcp/tools/tools.ts';

const SERVER = {
  name: 's',
  sessionId: undefined,
  transport: 'stdio',
  server: { name: 's', version: '1' },
  protocolVersion: '1',
  tools: [],
  omitted: [],
  connectedAtMs: 0,
} as const;

async function answerOf(call: () => Promise<McpResult>): Promise<string> {
  const toolset = toToolset({ connections: [SERVER], omitted: [], restarted: [] }, call);
  const answer = await toolset.call({ server: 's', tool: 't' }, {}, new AbortController().signal);
  return answer.content;
}

it('the text of a tool has no half of a surrogate pair, wherever a long answer is cut', async () => {
  for (const start of ['', 'a']) {
    const text = `${start}${'\u{1f600}'.repeat(40_000)}`;
    const answer = await answerOf(async () => ({ content: [{ type: 'text', text }] }));
    expect(answer).toMatch(/\[truncated: the result was longer\]$/);
    expect(answer.isWellFormed()).toBe(true);
  }
});

it('the message of a failure has no half of a surrogate pair', async () => {
  const answer = await answerOf(() => Promise.reject(new RpcError('upstream_error', { message: 'broken \ud83d' })));
  expect(answer).toBe('broken \ufffd');
});
