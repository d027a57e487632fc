// Every failure of a model, in every wire format, states what has failed: the model, the account or the provider. That
// decides which other models may answer.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { failedPart } from '../../../../shared/engines/fall-back.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, failTurn, textOf } from '../../../support/fixtures/turns/engines.ts';
import { MODEL_FAILURES } from '../../../support/fixtures/turns/model-failures.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

/** Only a failure that is a hang has a short deadline. */
const toOptions = ({ hang }: (typeof MODEL_FAILURES)[number]['script']) => ({
  ...(hang === 'headers' && { deadlines: { firstByteMs: 100 } }),
  ...(hang === 'stream' && { deadlines: { idleMs: 500 } }),
});

describe.each(CASES)('of $provider', ({ model, provider: name }) => {
  it.each(MODEL_FAILURES)(
    'a failure ($name) concerns the $failed',
    async ({ script, failed, error: expected, isBegun }) => {
      provider.behave(() => script);
      const engine = createTestEngine(provider, toOptions(script));
      // A wait that is requested is too long where another model may answer.
      const { error, events } = await failTurn(engine, { model, retryWaitMsMax: 1_000 });
      expect(failedPart(error)).toBe(failed);
      const { reason, retryable, status } = expected;
      expect({ reason: error.reason, retryable: error.retryable }).toEqual({ reason, retryable });
      expect(error.data).toMatchObject({ provider: name });
      expect(textOf(events) !== '').toBe(isBegun);
      // Wires differ in the number by which an overload is reported within a stream.
      if (status !== undefined && script.streamError === undefined) expect(error.data).toMatchObject({ status });
    },
  );
});
