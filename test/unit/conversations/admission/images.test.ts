// A prompt may consist of texts and images. They are validated before anything is stored, sent to every provider in its
// own form in this turn and the next ones, and listed in the history.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationList } from '../../../../shared/methods/conversation.list.ts';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import { checkParams } from '../../../../shared/rpc/params/issues.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  MODEL,
} from '../../../support/fixtures/turns/conversations.ts';

const PNG = `iVBORw0KGgoAAAANSUhEUg${'A'.repeat(200_002)}`;
const IMAGE = { type: 'image', media_type: 'image/png', data: PNG } as const;
const text = (value: string) => ({ type: 'text', text: value }) as const;
const BLIND = 'anthropic/blind';

let fixture: Fixture;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  const env = { MODELS: JSON.stringify({ [BLIND]: { input: ['text'] }, [MODEL]: { input: ['text', 'image'] } }) };
  fixture = await createFixture({ env });
  [a, b] = [await fixture.instance(), await fixture.instance()];
});
afterEach(() => fixture.close());

const sent = () => Object(fixture.provider.requests.at(-1)?.body).messages;
const SOURCE = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PNG } };

describe('a prompt of parts', () => {
  it.each([
    ['', 'prompt', 'prompt must not be empty'],
    [5, 'prompt', expect.stringMatching(/^prompt must be a string/)],
    [[], 'prompt', expect.stringMatching(/^prompt must/)],
    [[text(' \n')], 'prompt', 'prompt must contain more than white space'],
    [[{ type: 'text' }], 'prompt.0.text', 'prompt.0.text is required'],
    [[{ type: 'file', file_id: 'f' }], 'prompt.0', /must be "text" or "image"; files are not supported yet$/],
    [[{ ...IMAGE, data: 'a b' }], 'prompt.0.data', 'prompt.0.data must be base64'],
    [[{ ...IMAGE, media_type: 'image/jpeg' }], 'prompt.0.data', 'prompt.0.data is not of type image/jpeg'],
    [[{ ...IMAGE, media_type: 'image/tiff' }], 'prompt.0.media_type', expect.stringContaining('image/webp')],
    [[{ ...IMAGE, data: 'A'.repeat(1_000_000) }], 'prompt.0.data', expect.stringContaining('at most 921600')],
    [Array(65).fill(text('x')), 'prompt', expect.stringContaining('at most 64')],
  ])('a prompt of parts is refused in plain words: %#', (prompt, path, message) => {
    const checked = checkParams(conversationPrompt.params, { prompt });
    const issues = 'issues' in checked ? checked.issues : [];
    expect(issues[0]?.path).toMatch(path);
    expect(issues[0]?.message).toEqual(message instanceof RegExp ? expect.stringMatching(message) : message);
  });

  it('a prompt of parts is a text where it has no image; blank parts are left out', async () => {
    await a.call(conversationPrompt, { prompt: [text('one '), text(' '), text('two')], session_id: 's' });
    expect(sent().at(-1).content).toMatchObject([text('one two')]);
    const { messages } = await a.call(conversationHistory, { session_id: 's' });
    expect(messages[0]).toMatchObject({ content: 'one two' });
    expect(messages[0]).not.toHaveProperty('parts');
  });
});

describe('an image', () => {
  const prompt = [text('what is '), IMAGE, text(' '), text('this?')];

  it('an image is sent in this turn and the next ones, on every instance, and is in the history', async () => {
    const first = { prompt, session_id: 's', idempotency_key: 'k' };
    const answer = await a.call(conversationPrompt, first);
    expect(sent()[0].content).toMatchObject([text('what is '), SOURCE, text('this?')]);
    expect(await b.call(conversationPrompt, first)).toEqual(answer);
    expect((await failure(b.call(conversationPrompt, { ...first, prompt: 'what is this?' }))).reason).toBe(
      'invalid_params',
    );
    const next = await b.call(conversationPrompt, { prompt: 'and its colour?', session_id: 's' });
    expect(sent()[0].content).toMatchObject([text('what is '), SOURCE, text('this?')]);
    const { messages } = await b.call(conversationHistory, { session_id: 's' });
    expect(messages[0]).toMatchObject({ content: 'what is this?', parts: [text('what is '), IMAGE, text('this?')] });
    // Not counted as 200 KB of text.
    expect(next.events[0]).toMatchObject({ TaskStarted: { context: { messages: 3, trimmed: 0 } } });
    const { TaskStarted } = Object(next.events[0]);
    expect(TaskStarted.context.tokens).toBeLessThan(2_000);
    await a.call(conversationPrompt, { prompt: [IMAGE], session_id: 'only' });
    expect(sent()[0].content).toMatchObject([SOURCE]);
  });

  it('a prompt of images only is named in the preview, and in the title until there is a text', async () => {
    const only = { prompt: [IMAGE, IMAGE], session_id: 's' };
    fixture.provider.behave(() => ({ status: 400, message: 'no' }));
    await failure(a.call(conversationPrompt, only));
    const rows = async () => (await b.call(conversationList, {})).conversations;
    expect(await rows()).toMatchObject([{ title: 'Images', preview: 'Images' }]);
    await failure(a.call(conversationPrompt, { prompt: 'what are these?', session_id: 's' }));
    expect(await rows()).toMatchObject([{ title: 'what are these?', preview: 'what are these?' }]);
  });

  it('a first prompt of images only gets its title from the next prompt, also after an edit', async () => {
    const title = async () => Object(await b.call(conversationStatus, { session_id: 's' })).metadata.title;
    await a.call(conversationPrompt, { prompt: [IMAGE], session_id: 's' });
    expect(await title()).toBe('Image');
    await a.call(conversationPrompt, { prompt: 'what is this?', session_id: 's' });
    expect(await title()).toBe('what is this?');
    await b.call(conversationPrompt, { prompt: 'and its colour?', session_id: 's', after_seq: 4 });
    expect(await title()).toBe('what is this?');
    await b.call(conversationPrompt, { prompt: 'who made it?', session_id: 's', after_seq: 2 });
    expect(await title()).toBe('who made it?');
  });

  it.each([{ model: 'offline/echo' }, { model: BLIND }, { fallbacks: [BLIND] }])(
    'an image is refused where a model takes none, before anything is stored: %j',
    async (params) => {
      const error = await failure(a.call(conversationPrompt, { prompt, session_id: 's', ...params }));
      const model = params.model ?? BLIND;
      const issues = [{ path: 'prompt', message: `${model} takes no images` }];
      expect(error).toMatchObject({ reason: 'invalid_params', data: { issues } });
      expect(await a.call(conversationStatus, { session_id: 's' })).toMatchObject({ status: 'not_found' });
      expect(fixture.provider.calls).toBe(0);
    },
  );

  it('an image of an earlier prompt becomes a text for a model that takes none', async () => {
    await a.call(conversationPrompt, { prompt, session_id: 's' });
    await a.call(conversationPrompt, { prompt: 'and now?', session_id: 's', model: BLIND });
    const replaced = text('[An image that this model cannot take]');
    expect(sent()[0].content).toMatchObject([text('what is '), replaced, text('this?')]);
  });
});
