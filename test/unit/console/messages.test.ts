// The page shows in a message what the events and the end of its turn contain.
import { expect, it } from 'vitest';
import { RUNNING, withEnd, withEvent, withFailure } from '../../../functions/console/chat/messages.ts';
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import type { EventBody } from '../../../shared/turn-events.ts';

const delta = (text: string): EventBody => ({ AgentMessageDelta: { delta: text } });

it('a message collects text, reasoning and steps in the order of their events', () => {
  const events: EventBody[] = [
    { AgentReasoningDelta: { delta: 'First' } },
    { AgentReasoning: { text: 'First' } },
    { ExecCommandBegin: { call_id: 'c', command: ['ls', '-l'], cwd: '/' } },
    { ExecCommandEnd: { call_id: 'c', exit_code: 2, duration_ms: 1, aggregated_output: '' } },
    delta('one '),
    { AgentReasoningDelta: { delta: ', then' } },
    delta('two'),
    { TokenCount: { input_tokens: 1, output_tokens: 1, total_tokens: 2 } },
  ];
  expect(events.reduce(withEvent, RUNNING)).toEqual({
    role: 'assistant',
    state: 'running',
    content: 'one two',
    reasoning: 'First, then',
    steps: ['ran ls -l', 'exit code 2'],
  });
});

it('a message keeps the last 100 steps', () => {
  const begin = (path: string): EventBody => ({
    McpToolCallBegin: { call_id: path, server: 's', tool: path },
  });
  const events = Array.from({ length: 120 }, (_, index) => begin(`t${index}`));
  const { steps } = events.reduce(withEvent, RUNNING);
  expect([steps?.length, steps?.[0], steps?.at(-1)]).toEqual([100, 'called s.t20', 'called s.t119']);
});

it('a completed turn shows its stored answer', () => {
  expect(withEnd(withEvent(RUNNING, delta('par')), 'completed', 'partly')).toMatchObject({
    state: 'done',
    content: 'partly',
  });
});

it.each([
  ['what was streamed, when less was stored', 'streamed', 'stre', 'streamed'],
  ['what was stored, when less was streamed', 'sto', 'stored', 'stored'],
])('a turn that did not complete keeps %s', (_, streamed, stored, content) => {
  const message = withEvent(RUNNING, delta(streamed));
  expect(withEnd(message, 'cancelled', stored)).toMatchObject({ state: 'cancelled', content });
  const interrupted = withEnd(message, 'interrupted', stored);
  expect(interrupted).toMatchObject({ state: 'failed', content, failure: { reason: 'interrupted' } });
});

it('a failed turn shows the error that it reported itself', () => {
  const failed = withEvent(RUNNING, { Error: { turn_id: 't', reason: 'upstream_error', message: 'no' } });
  expect(withEnd(failed, 'failed', '')).toMatchObject({ failure: { reason: 'upstream_error', message: 'no' } });
});

it('a cancelled turn is shown without a failure, and any other error with it', () => {
  const error = (reason: string): GatewayError => new GatewayError({ reason, message: reason });
  expect(withFailure(RUNNING, error('cancelled'))).toEqual({ ...RUNNING, state: 'cancelled' });
  expect(withFailure(RUNNING, error('network'))).toMatchObject({ state: 'failed', failure: { reason: 'network' } });
});
