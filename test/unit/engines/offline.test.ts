// The offline models repeat the prompt in the same way every time, without a network call.
import { describe, expect, it } from 'vitest';
import { createOfflineEngine } from '../../../shared/engines/offline.ts';
import type { EngineEvent } from '../../../shared/turn-events.ts';
import { runTurn, textOf } from '../../support/fixtures/turns/engines.ts';

const model = 'offline/echo';

describe('offline/echo', () => {
  it('offline/echo names itself and repeats the prompt, the same way every time', async () => {
    const first = await runTurn(createOfflineEngine(), { model, prompt: 'Olá 👋' });
    const second = await runTurn(createOfflineEngine(), { model, prompt: 'Olá 👋' });
    expect(first.outcome.content).toMatch(/offline\/echo.*no AI model is configured.*You said: Olá 👋$/);
    expect(first.outcome.model).toBe(model);
    expect(second).toEqual(first);
  });

  it('offline/echo streams deltas that add up to the answer, then the token count', async () => {
    const { events, outcome } = await runTurn(createOfflineEngine(), { model, prompt: '👋'.repeat(1_500) });
    expect(events.filter((event) => 'AgentMessageDelta' in event).length).toBeGreaterThan(1);
    expect(textOf(events)).toBe(outcome.content);
    for (const event of events)
      if ('AgentMessageDelta' in event) expect(event.AgentMessageDelta.delta.isWellFormed()).toBe(true);
    expect(events.at(-1)).toEqual({ TokenCount: outcome.usage });
    expect(outcome.usage.total_tokens).toBe(outcome.usage.input_tokens + outcome.usage.output_tokens);
  });

  it('offline/echo answers the last message of a conversation and counts all of it', async () => {
    const messages = [
      { role: 'user', content: 'a'.repeat(400) },
      { role: 'assistant', content: 'b'.repeat(400) },
      { role: 'user', content: 'last' },
    ] as const;
    const { outcome } = await runTurn(createOfflineEngine(), { model, messages });
    expect(outcome.content).toMatch(/You said: last$/);
    expect(outcome.usage.input_tokens).toBe(201);
  });

  it('offline/echo quotes a long prompt in part, without splitting a character', async () => {
    const { outcome } = await runTurn(createOfflineEngine(), { model, prompt: `a${'👋'.repeat(400_000)}` });
    expect(outcome.content.length).toBeLessThan(5_000);
    expect(outcome.content.isWellFormed()).toBe(true);
    expect(outcome.content).toMatch(/…$/);
  });

  it('offline/slow sends the same word by word, and stops between two words when aborted', async () => {
    const stop = new AbortController();
    const reason = new Error('stop');
    const deltas: string[] = [];
    const onEvent = (event: EngineEvent): void => {
      if ('AgentMessageDelta' in event) deltas.push(event.AgentMessageDelta.delta);
      if (deltas.length === 2) stop.abort(reason);
    };
    const turn = runTurn(createOfflineEngine(), { model: 'offline/slow', signal: stop.signal, onEvent });
    await expect(turn).rejects.toBe(reason);
    expect(deltas).toEqual(['This', ' is']);
  });

  it('offline/echo throws the reason of an aborted signal', async () => {
    const reason = new Error('stop');
    await expect(runTurn(createOfflineEngine(), { model, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});
