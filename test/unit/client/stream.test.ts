// A stream of the client brings each event exactly once and in order over both transports, with one model call and the
// same end, also when connections are lost.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TurnEvent } from '../../../shared/client/events.ts';
import type { ClientOptions } from '../../../shared/client/options.ts';
import { createFixture, type Fixture, failure } from '../../support/fixtures/gateway/client.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(() => fixture.close());

const textOf = (events: readonly TurnEvent[]): string =>
  events.map(({ event }) => event.AgentMessageDelta?.delta ?? '').join('');

it('a stream follows the running turn when the connection of its prompt is cut before the first event', async () => {
  const { client, provider, proxy } = fixture;
  const calls = provider.calls;
  const received = Promise.withResolvers<void>();
  provider.behave(() => ({ chunks: ['at last'], gate: () => received.promise }));
  const turn = client().stream({ prompt: 'wait for me', session_id: 'in-flight' });
  proxy.loseAnswer();
  // The model answers only after the client has found the turn again.
  expect((await turn.next()).value?.event).toHaveProperty('TaskStarted');
  received.resolve();
  expect(await turn.answer()).toMatchObject({ type: 'ai_response', content: 'at last' });
  provider.behave();
  expect(provider.calls - calls).toBe(1);
});

describe.each<NonNullable<ClientOptions['streaming']>>(['sse', 'websocket'])('a stream over %s', (streaming) => {
  const session = (name: string): string => `${streaming}-${name}`;

  it('a stream yields the text as it arrives, then returns the answer', async () => {
    const gate = Promise.withResolvers<void>();
    fixture.provider.behave(() => ({
      chunks: ['one ', 'two'],
      gate: (index) => (index === 1 ? gate.promise : Promise.resolve()),
    }));
    const turn = fixture.client({ streaming }).stream({ prompt: 'count', session_id: session('text') });
    const pieces: string[] = [];
    for await (const piece of turn.text()) {
      pieces.push(piece);
      // The second piece is sent only after the first has arrived here.
      gate.resolve();
    }
    fixture.provider.behave();
    expect(pieces).toEqual(['one ', 'two']);
    expect(await turn.answer()).toMatchObject({ type: 'ai_response', content: 'one two', session_id: session('text') });
  });

  it('a stream has every event of a prompt that follows a message, whatever its number', async () => {
    const prompt = { prompt: 'hello', session_id: session('edited') };
    for (const _ of [1, 2, 3]) await fixture.client().call('conversation.prompt', prompt);
    const turn = fixture.client({ streaming }).stream({ ...prompt, after_seq: 4 });
    const events: TurnEvent[] = [];
    for await (const event of turn) events.push(event);
    expect(events[0]).toMatchObject({ seq: 1, event: { TaskStarted: {} } });
    const { content } = await turn.answer();
    expect(textOf(events)).toBe(content);
  });

  it('a stream that is cut repeatedly has every event once and in order, and the answer of its one model call', async () => {
    const { client, provider, proxy } = fixture;
    const before = provider.calls;
    const connections = proxy.connections;
    const steps = Array.from({ length: 13 }, () => Promise.withResolvers<void>());
    provider.behave(() => ({
      chunks: Array.from({ length: 12 }, (_, index) => `${index} `),
      gate: (index) => steps[index]?.promise ?? Promise.resolve(),
    }));
    steps[0]?.resolve();
    const turn = client({ streaming }).stream({ prompt: 'long story', session_id: session('cut') });
    const events: TurnEvent[] = [];
    for await (const event of turn) {
      events.push(event);
      const deltas = events.filter((one) => one.event.AgentMessageDelta).length;
      if (deltas > 0 && deltas % 4 === 0 && event.event.AgentMessageDelta) proxy.cut();
      steps[deltas]?.resolve();
    }
    const answer = await turn.answer();
    provider.behave();
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
    expect(textOf(events)).toBe('0 1 2 3 4 5 6 7 8 9 10 11 ');
    expect(answer.content).toBe(textOf(events));
    expect(events.at(-1)?.event).toHaveProperty('TaskComplete');
    expect(provider.calls - before).toBe(1);
    expect(proxy.connections - connections).toBeGreaterThan(3);
    const history = await client().call('conversation.history', { session_id: session('cut') });
    expect(history.messages).toHaveLength(2);
  });

  it('a stream that loses its connection before the first event does not prompt twice', async () => {
    const { client, provider, proxy } = fixture;
    const before = provider.calls;
    const { losses } = proxy;
    const prompts = (): number => fixture.gateway.logged().split('"conversation.prompt"').length;
    const promptsBefore = prompts();
    // Over WebSocket the ticket and the handshake are answered first.
    proxy.loseAnswer(streaming === 'websocket' ? 2 : 0);
    const answer = await client({ streaming })
      .stream({ prompt: 'once', session_id: session('first') })
      .answer();
    expect(answer.content).toBe('You said: once');
    expect(proxy.losses - losses).toBe(1);
    expect(prompts() - promptsBefore).toBe(2);
    expect(provider.calls - before).toBe(1);
    expect((await client().call('conversation.history', { session_id: session('first') })).messages).toHaveLength(2);
  });

  it('a stream ends with the error that ended its turn, also when it received it on another connection', async () => {
    const { client, provider, proxy } = fixture;
    const error = await failure(client({ streaming }).stream('[[chunks 4]] [[cut]]').answer());
    expect(error).toMatchObject({ reason: 'upstream_error', code: 502, retryable: true });

    const gate = Promise.withResolvers<void>();
    provider.behave(() => ({
      chunks: ['a', 'b', 'c', 'd'],
      cut: 'socket',
      gate: (i) => (i === 1 ? gate.promise : Promise.resolve()),
    }));
    const before = provider.calls;
    const turn = client({ streaming }).stream('fail later');
    const again = failure(
      (async () => {
        for await (const { event } of turn) {
          if (!event.AgentMessageDelta) continue;
          proxy.cut();
          gate.resolve();
        }
      })(),
    );
    expect(await again).toMatchObject({ reason: 'upstream_error', code: 502, data: { turn_status: 'failed' } });
    provider.behave();
    expect(provider.calls - before).toBe(1);
    // A second request returns the same.
    expect(await failure(turn.answer())).toBe(await again);
  });

  it('a stream that its reader leaves lets the turn run, to be resumed by its number', async () => {
    const { client, provider } = fixture;
    const gate = Promise.withResolvers<void>();
    provider.behave(() => ({ chunks: ['head ', 'tail'], gate: (i) => (i === 1 ? gate.promise : Promise.resolve()) }));
    const session_id = session('left');
    let seen = 0;
    for await (const { seq, event } of client({ streaming }).stream({ prompt: 'go', session_id })) {
      seen = seq;
      if (event.AgentMessageDelta) break;
    }
    expect(await client().call('conversation.status', { session_id })).toMatchObject({ status: 'running' });
    gate.resolve();
    const rest = client({ streaming }).resume({ session_id, after_seq: seen });
    const events: TurnEvent[] = [];
    for await (const event of rest) events.push(event);
    provider.behave();
    expect(events[0]?.seq).toBe(seen + 1);
    expect(textOf(events)).toBe('tail');
    expect(await rest.answer()).toMatchObject({ status: 'completed', content: 'head tail' });
  });

  it('a stream that is aborted with cancelOnAbort stops the model call; without it, only the reading ends', async () => {
    const { client, provider } = fixture;
    for (const cancelOnAbort of [true, false]) {
      const stop = new AbortController();
      const session_id = session(`abort-${cancelOnAbort}`);
      const requested = provider.next();
      const turn = client({ streaming }).stream(
        { prompt: '[[hang]]', session_id },
        { signal: stop.signal, cancelOnAbort },
      );
      const reason = new Error('enough');
      const read = (async () => {
        for await (const { event } of turn) if (event.AgentMessageDelta) stop.abort(reason);
      })();
      await expect(read).rejects.toBe(reason);
      const request = await requested;
      const { status } = await client().call('conversation.status', { session_id });
      if (cancelOnAbort) {
        expect(await request.done).toMatchObject({ by: 'client' });
        expect(status).toBe('cancelled');
      } else {
        expect(status).toBe('running');
        await client().call('conversation.cancel', { session_id });
      }
    }
  });

  it('a stream that is aborted before any response still cancels a prompt that is on its way', async () => {
    const stop = new AbortController();
    const requested = fixture.provider.next();
    const session_id = session('early');
    const options = { signal: stop.signal, cancelOnAbort: true };
    const answer = fixture.client({ streaming }).stream({ prompt: '[[hang headers]]', session_id }, options).answer();
    const request = await requested;
    stop.abort();
    await expect(answer).rejects.toMatchObject({ name: 'AbortError' });
    expect(await request.done).toMatchObject({ by: 'client' });
  });

  it('a stream rejects as timeout at its deadline', async () => {
    const turn = fixture.client({ streaming }).stream('[[hang]]', { timeoutMs: 300, cancelOnAbort: true });
    expect(await failure(turn.answer())).toMatchObject({ reason: 'timeout', retryable: true });
  });

  it('a stream ends with the network error after its attempts at an unreachable gateway', async () => {
    const { client, proxy } = fixture;
    const before = proxy.connections;
    const turn = client({ streaming, retries: 2 }).stream('[[chunks 3 every 20]]');
    const read = (async () => {
      for await (const _event of turn) {
        proxy.loseAll(true);
      }
    })();
    expect(await failure(read)).toMatchObject({ reason: 'network', code: 0, status: 0, retryable: true });
    proxy.loseAll(false);
    expect(proxy.connections - before).toBeLessThanOrEqual(streaming === 'websocket' ? 4 : 3);
  });
});
