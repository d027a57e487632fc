// A turn that stops also stops the provider's work. The suite checks this at the provider's socket, not only at the
// caller.
import { getEventListeners } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, runTurn } from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterAll(() => provider.close());

describe.each(CASES)('$provider', ({ model }) => {
  it('the upstream socket is closed when a turn is aborted in mid-stream, and the reason is thrown', async () => {
    const seen = provider.next();
    const controller = new AbortController();
    const reason = new Error('cancelled by the test');
    const onEvent = () => controller.abort(reason);
    const turn = runTurn(createTestEngine(provider), { model, prompt: '[[hang]]', signal: controller.signal, onEvent });
    await expect(turn).rejects.toBe(reason);
    expect((await (await seen).done).by).toBe('client');
  });

  it('the upstream socket is closed when a turn is aborted before the first byte', async () => {
    const seen = provider.next();
    const controller = new AbortController();
    const reason = new Error('cancelled by the test');
    const turn = runTurn(createTestEngine(provider), { model, prompt: '[[hang headers]]', signal: controller.signal });
    const request = await seen;
    controller.abort(reason);
    await expect(turn).rejects.toBe(reason);
    expect((await request.done).by).toBe('client');
  });

  it('the upstream socket is closed when the reader breaks off', async () => {
    const seen = provider.next();
    const messages = [{ role: 'user', content: '[[hang]]' }] as const;
    const turn = { turnId: 't', conversationId: 'c', model, messages };
    for await (const _ of createTestEngine(provider).run(turn, { signal: new AbortController().signal })) break;
    expect((await (await seen).done).by).toBe('client');
  });

  it('the provider is not called with a signal that is already aborted', async () => {
    const before = provider.calls;
    const reason = new Error('too late');
    await expect(runTurn(createTestEngine(provider), { model, signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
    expect(provider.calls).toBe(before);
  });

  it('a wait for a retry ends when the turn is aborted', async () => {
    const seen = provider.next();
    const before = provider.calls;
    const controller = new AbortController();
    const reason = new Error('cancelled by the test');
    const prompt = '[[status 429 retry-after 20]]';
    const turn = runTurn(createTestEngine(provider), { model, prompt, signal: controller.signal });
    await (await seen).done;
    controller.abort(reason);
    await expect(turn).rejects.toBe(reason);
    expect(provider.calls - before).toBe(1);
  });

  it('a turn leaves no listener on the signal and no timer behind', async () => {
    const { signal } = new AbortController();
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    const engine = createTestEngine(provider);
    await runTurn(engine, { model, signal });
    const before = timers();
    for (let turn = 0; turn < 20; turn += 1) await runTurn(engine, { model, signal });
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    expect(timers() - before).toBeLessThan(10);
  });
});
