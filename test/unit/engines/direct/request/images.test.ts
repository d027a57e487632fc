// Images of prompts are sent in every wire format, through the real SDK providers.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, runTurn } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterAll(() => provider.close());

const DATA = 'iVBORw0KGgoAAAANSUhEUg==';
const URL = `data:image/png;base64,${DATA}`;
const FORMS: Readonly<Record<string, object>> = {
  anthropic: { type: 'image', source: { type: 'base64', media_type: 'image/png', data: DATA } },
  openai: { type: 'input_image', image_url: URL },
  google: { inlineData: { mimeType: 'image/png', data: DATA } },
  groq: { type: 'image_url', image_url: { url: URL } },
  'my-server': { type: 'input_image', image_url: URL },
};

it.each(CASES)('images are sent to $provider in its own form, between the texts', async ({ model, provider: name }) => {
  const parts = [
    { type: 'text', text: 'what is ' },
    { type: 'image', media_type: 'image/png', data: DATA },
    { type: 'text', text: 'this?' },
  ] as const;
  const messages = [{ role: 'user', content: 'what is this?', parts }] as const;
  await runTurn(createTestEngine(provider), { model, messages });
  const body = Object(provider.requests.at(-1)?.body);
  const [message] =
    body.contents ?? (body.messages ?? body.input).filter(({ role }: { role: string }) => role === 'user');
  const [first, image, last] = message.parts ?? message.content;
  expect(first).toMatchObject({ text: 'what is ' });
  expect(image).toMatchObject(FORMS[name] ?? {});
  expect(last).toMatchObject({ text: 'this?' });
});
