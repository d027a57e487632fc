// `proto` runs the same turn as `conversation.prompt`, with the same rules, and its bytes are reproducible.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PromptAnswer } from '../../../shared/conversations/turns/end/answer.ts';
import { decodeSubmission, encodeReply, toPromptParams } from '../../../shared/proto/codec.ts';
import { OnBusy, ReplySchema, SubmissionSchema } from '../../../shared/proto/gateway_pb.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

/** The first bytes of a file. */
const PNG = Uint8Array.from(Buffer.from('89504e470d0a1a0a0000000d', 'hex'));

let gateway: InProcessGateway;
beforeAll(async () => {
  gateway = await startInProcess({ GATEWAY_API_KEY: 'k' });
});
afterAll(() => gateway.close());

/** The members of a response these tests look at. */
interface Answer {
  readonly result: PromptAnswer & { stream_id: string; data: string; messages: { content: string }[] };
  readonly error: { code: number; data: { issues: { path: string; message: string }[] } };
}

async function call(method: string, params: object): Promise<Answer> {
  const response = await fetch(`${gateway.url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'k' },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
  });
  return (await response.json()) as Answer;
}

function submit(submission: Parameters<typeof create<typeof SubmissionSchema>>[1]): string {
  return Buffer.from(toBinary(SubmissionSchema, create(SubmissionSchema, submission))).toString('base64');
}

describe('proto', () => {
  it('proto answers the documented bytes, an encoded Hello, with a Reply of the session stream_id', async () => {
    const { result } = await call('proto', { stream_id: 'session-123', data: 'CgVIZWxsbw==' });
    const { stream_id, data } = result;
    const reply = fromBinary(ReplySchema, Buffer.from(data, 'base64'));
    expect(stream_id).toBe('session-123');
    expect(reply.sessionId).toBe('session-123');
    expect(reply.content).toMatch(/You said: Hello$/);
    expect(reply.model).toBe('offline/echo');
    expect(reply.events.map(({ name }) => name)).toEqual(['TaskStarted', 'AgentMessage', 'TaskComplete']);
    expect(reply.usage?.totalTokens).toBeGreaterThan(0n);
    const history = await call('conversation.history', { session_id: 'session-123' });
    expect(history.result.messages.map(({ content }) => content)).toEqual(['Hello', reply.content]);
  });

  it('proto passes settings on, and returns a warning for each that the model does not support', async () => {
    const settings = { temperature: 0, stop: ['END'], reasoning: 'low' };
    const data = submit({ prompt: 'Hello', settings });
    expect(toPromptParams('s', decodeSubmission(data))).toMatchObject({ settings });
    const { result } = await call('proto', { stream_id: 'settings', data });
    const reply = fromBinary(ReplySchema, Buffer.from(result.data, 'base64'));
    expect(reply.warnings.map(({ setting }) => setting)).toEqual(['temperature', 'stop', 'reasoning']);
    const wrong = await call('proto', { stream_id: 's', data: submit({ prompt: 'Hello', settings: { topP: 2 } }) });
    expect(wrong.error.data.issues).toEqual([
      { path: 'data.settings.top_p', message: 'settings.top_p must be at most 1' },
    ]);
  });

  it('proto passes on the number of the message that the prompt follows, 0 included', async () => {
    for (const prompt of ['first', 'second']) await call('conversation.prompt', { prompt, session_id: 'edited' });
    for (const [prompt, afterSeq, count] of [
      ['edited', 2, 4],
      ['again', 0, 2],
    ] as const) {
      await call('proto', { stream_id: 'edited', data: submit({ prompt, afterSeq }) });
      const { result } = await call('conversation.history', { session_id: 'edited' });
      expect(result.messages).toHaveLength(count);
      expect(result.messages.at(-2)?.content).toBe(prompt);
    }
  });

  it('proto passes on texts and images, in their order and as they are in a prompt of parts', () => {
    const image = { mediaType: 'image/png', data: PNG };
    const parts = [image, image].map((value) => ({ part: { case: 'image' as const, value } }));
    const text = { part: { case: 'text' as const, value: 'and?' } };
    const sent = { type: 'image', media_type: 'image/png', data: Buffer.from(PNG).toString('base64') };
    const read = (value: Parameters<typeof submit>[0]) => toPromptParams('s', decodeSubmission(submit(value))).prompt;
    expect(read({ prompt: 'What?', parts: [...parts, text] })).toEqual([
      ...[{ type: 'text', text: 'What?' }, sent, sent],
      { type: 'text', text: 'and?' },
    ]);
    expect(read({ parts })).toEqual([sent, sent]);
  });

  it('proto refuses images by the rules of a prompt: to a model without them, of another type, of none', async () => {
    const image = (mediaType: string, data: Uint8Array<ArrayBuffer>) =>
      submit({ parts: [{ part: { case: 'image', value: { mediaType, data } } }] });
    for (const [data, path, message] of [
      [image('image/png', PNG), 'prompt', /^offline\/echo takes no images$/],
      [image('image/jpeg', PNG), 'data.prompt.0.data', /is not of type image\/jpeg$/],
      [image('image/tiff', PNG), 'data.prompt.0.media_type', /image\/webp/],
      [image('image/png', new Uint8Array()), 'data.prompt.0.data', /./],
      [submit({ parts: [{}] }), 'data.prompt', /white space/],
    ] as const) {
      const { error } = await call('proto', { stream_id: 's', data });
      expect({ code: error.code, issue: error.data.issues[0] }).toEqual({
        code: -32602,
        issue: { path, message: expect.stringMatching(message) },
      });
    }
  });

  it('proto passes on a schema of the answer, and returns the parsed answer', async () => {
    const schema = { type: 'object', properties: { a: { type: 'integer' } } };
    const data = submit({ prompt: 'Hello', outputSchemaJson: JSON.stringify(schema) });
    expect(toPromptParams('s', decodeSubmission(data))).toMatchObject({ output_schema: schema });
    const wrong = await call('proto', { stream_id: 's', data: submit({ prompt: 'Hello', outputSchemaJson: '{' }) });
    expect(wrong.error.data.issues).toEqual([{ path: 'data.output_schema', message: 'is not JSON' }]);
    const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
    const names = { conversation_id: 'c', session_id: 's', turn_id: 't', model: 'm', timestamp: 'd' };
    const answer = { type: 'ai_response', content: '{"a":1}', output: { a: 1 }, events: [], usage, ...names } as const;
    expect(fromBinary(ReplySchema, encodeReply(answer)).outputJson).toBe('{"a":1}');
  });

  it.each([
    [`${'{"items":'.repeat(6_000)}{}${'}'.repeat(6_000)}`, /^is not accepted: /],
    ['{"type":"string","type":"object"}', /^is not accepted: /],
    ['{"type":"object","properties":{"__proto__":{}}}', /^is not accepted: /],
    ['{"description":"\\ud800"}', /^is not accepted: /],
  ])('proto refuses a schema by the rules for JSON in a request: %#', async (outputSchemaJson, message) => {
    const { error } = await call('proto', { stream_id: 's', data: submit({ prompt: 'Hello', outputSchemaJson }) });
    expect(error.code).toBe(-32602);
    expect(error.data.issues).toEqual([{ path: 'data.output_schema', message: expect.stringMatching(message) }]);
  });

  it('proto runs the same turn as conversation.prompt, reproducible byte for byte', async () => {
    const prompt = { prompt: 'Same turn', session_id: 'bytes', idempotency_key: 'one' };
    const { result } = await call('conversation.prompt', prompt);
    const data = submit({ prompt: 'Same turn', idempotencyKey: 'one' });
    const first = await call('proto', { stream_id: 'bytes', data });
    const second = await call('proto', { stream_id: 'bytes', data });
    expect(first).toEqual(second);
    expect(first.result.data).toBe(Buffer.from(encodeReply(result)).toString('base64'));
  });

  it.each([
    ['no base64 at all', '***'],
    ['base64 without padding', 'CgVIZWxsbw'],
    ['base64url', '_-__'],
    ['a truncated field', 'CgVIZQ=='],
    ['a group that never ends', 'Cw=='],
    ['text that is not UTF-8', Buffer.from([0x0a, 2, 0xff, 0xfe]).toString('base64')],
    ['an empty prompt', submit({ prompt: '' })],
    ['a blank prompt', submit({ prompt: ' \n' })],
    ['no prompt', submit({ model: 'offline/echo' })],
    ['an unknown on_busy', Buffer.from([0x0a, 1, 0x61, 0x20, 9]).toString('base64')],
    ['an unknown model', submit({ prompt: 'a', model: 'nobody/knows' })],
  ])('proto refuses %s with -32602 and the reason', async (_name, data) => {
    const { error } = await call('proto', { stream_id: 's', data });
    expect(error.code).toBe(-32602);
    expect(error.data.issues[0]?.message).toBeTruthy();
  });
});

it('every field of a Submission becomes its param, and empty fields are left out', () => {
  const all = {
    prompt: 'p',
    model: 'a/b',
    instructions: 'i',
    onBusy: OnBusy.QUEUE,
    idempotencyKey: 'k',
    authSessionId: 'auth_1',
  };
  expect(toPromptParams('s', decodeSubmission(submit(all)))).toEqual({
    prompt: 'p',
    session_id: 's',
    model: 'a/b',
    instructions: 'i',
    on_busy: 'queue',
    idempotency_key: 'k',
    auth_session_id: 'auth_1',
  });
  expect(toPromptParams('s', decodeSubmission('CgVIZWxsbw=='))).toEqual({ prompt: 'Hello', session_id: 's' });
});

it('the committed code is the one that gateway.proto generates (npm run proto)', () => {
  const out = mkdtempSync(join(tmpdir(), 'proto-'));
  const root = join(import.meta.dirname, '../../..');
  const { status } = spawnSync(process.execPath, [join(root, 'shared/proto/generate.ts'), out], { stdio: 'ignore' });
  expect(status).toBe(0);
  expect(readFileSync(join(out, 'gateway_pb.ts'), 'utf8')).toBe(
    readFileSync(join(root, 'shared/proto/gateway_pb.ts'), 'utf8'),
  );
  rmSync(out, { recursive: true });
});
