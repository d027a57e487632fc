// Binary messages of a WebSocket have the same turns, limits and scopes as JSON-RPC in text.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineMethod } from '../../../shared/methods/define-method.ts';
import {
  type Error as ErrorFrame,
  FrameSchema,
  ReplySchema,
  SubmissionSchema,
} from '../../../shared/proto/gateway_pb.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { frame, OPCODE, openRaw } from '../../support/fixtures/clients/frames.ts';
import { binaryOf, type ReceivedFrame, submission } from '../../support/fixtures/clients/proto-client.ts';
import { createFixture, type Fixture, type FixtureOptions, KEY } from '../../support/fixtures/gateway/companion.ts';

let fixture: Fixture;
async function start(options: FixtureOptions = {}): Promise<void> {
  fixture = await createFixture(options);
}
afterEach(() => fixture.close());

function errorOf({ frame: { body } }: ReceivedFrame): ErrorFrame {
  if (body.case !== 'error') throw new Error(`no error but ${body.case}`);
  return body.value;
}

describe('a submission', () => {
  beforeEach(() => start());

  it('a submission is answered with its events and its reply, the very bytes that proto answers over JSON-RPC', async () => {
    const client = await fixture.connect();
    const binary = binaryOf(client);
    const prompt = { prompt: `Same turn, ${'é✓😀 '.repeat(1_000)}`, idempotencyKey: 'one' };
    binary.submit('a', 'bytes', prompt);
    const reply = await binary.answer('a');

    const data = Buffer.from(toBinary(SubmissionSchema, create(SubmissionSchema, prompt))).toString('base64');
    const { result } = await client.call('proto', { stream_id: 'bytes', data });
    const same = fromBinary(ReplySchema, Buffer.from(String(result?.data), 'base64'));
    const whole = create(FrameSchema, { id: 'a', streamId: 'bytes', body: { case: 'reply', value: same } });
    expect(reply.bytes.equals(toBinary(FrameSchema, whole))).toBe(true);
    expect(same.content).toContain('You said: Same turn');

    await client.call('conversation.resume', { session_id: 'bytes', after_seq: 0 });
    const replayed = client.received
      .filter(({ params }) => params?.turn_id === same.turnId)
      .slice(-binary.received.length + 1);
    const events = binary.received.slice(0, -1);
    expect(events.length).toBeGreaterThan(4);
    expect(events.map(({ frame: { id, streamId } }) => [id, streamId])).toEqual(events.map(() => ['a', 'bytes']));
    expect(
      events.map(({ frame: { body } }) =>
        body.case === 'event'
          ? { seq: Number(body.value.seq), event: { [body.value.name]: JSON.parse(body.value.json) } }
          : body,
      ),
    ).toEqual(replayed.map(({ params }) => ({ seq: params?.seq, event: params?.event })));
  });

  it('a submission continues when the connection ends', async () => {
    const first = await fixture.connect();
    const binary = binaryOf(first);
    binary.submit('a', 's', { prompt: 'word '.repeat(200) });
    await binary.until(({ body }) => body.case === 'event');
    first.socket.terminate();
    const second = await fixture.connect();
    const resumed = await second.call('conversation.resume', { session_id: 's', after_seq: 0 });
    expect(resumed.result).toMatchObject({ status: 'completed' });
  });

  it('a submission may arrive in fragments with pings between them, and among text messages', async () => {
    const client = await openRaw(fixture.port, KEY);
    const bytes = submission('f', 's', { prompt: 'in pieces é' });
    client.write(frame(OPCODE.binary, bytes.subarray(0, 1), { fin: false }));
    client.write(frame(OPCODE.ping, 'between'));
    for (const byte of bytes.subarray(1, -1))
      client.write(frame(OPCODE.continuation, Uint8Array.of(byte), { fin: false }));
    client.write(frame(OPCODE.continuation, bytes.subarray(-1)));
    client.write(
      frame(OPCODE.text, '{"jsonrpc":"2.0","method":"conversation.status","params":{"session_id":"t"},"id":"t"}'),
    );
    await client.until(({ opcode, payload }) => opcode === OPCODE.text && String(payload).includes('"id":"t"'));
    const { payload } = await client.until(
      (found) => found.opcode === OPCODE.binary && fromBinary(FrameSchema, found.payload).body.case === 'reply',
    );
    expect(fromBinary(FrameSchema, payload)).toMatchObject({
      id: 'f',
      body: { value: { content: expect.stringMatching(/You said: in pieces é$/) } },
    });
    client.socket.destroy();
  });

  it('a submission may be as large as a message may be, and no larger', async () => {
    const client = await fixture.connect();
    const binary = binaryOf(client);
    const limit = 1 << 20;
    const room = limit - submission('a', 's', { prompt: 'x'.repeat(limit - 64) }).length;
    const largest = submission('a', 's', { prompt: 'x'.repeat(limit - 64 + room) });
    expect(largest).toHaveLength(limit);
    binary.send(largest);
    expect((await binary.answer('a')).frame.body.case).toBe('reply');
    binary.send(Buffer.alloc(limit + 1));
    expect((await client.closed).code).toBe(1009);
  });
});

describe('a binary message that is no submission', () => {
  const named = (value: Parameters<typeof create<typeof FrameSchema>>[1]): Uint8Array =>
    toBinary(FrameSchema, create(FrameSchema, value));
  const good = submission('x', 's', { prompt: 'hello' });
  const MALFORMED: readonly (readonly [string, Uint8Array])[] = [
    ['nothing', new Uint8Array()],
    ['JSON', Buffer.from('{"jsonrpc":"2.0","method":"conversation.status","id":1}')],
    ['a JSON batch', Buffer.from('[{"jsonrpc":"2.0","method":"conversation.status","id":1}]')],
    ['zeros', Buffer.alloc(64)],
    ['ones', Buffer.alloc(64, 0xff)],
    ['a length beyond its end', Buffer.from([0x0a, 0x7f, 0x61])],
    ['a frame that is cut', good.subarray(0, -3)],
    ['a frame with a byte too many', Buffer.concat([good, Buffer.of(0x0a)])],
    ['an id that is not UTF-8', Buffer.from([0x0a, 2, 0xff, 0xfe])],
    ['a prompt that is not UTF-8', Buffer.from([0x12, 1, 0x73, 0x1a, 4, 0x0a, 2, 0xc0, 0xaf])],
    ['a varint without end', Buffer.alloc(32, 0x80)],
    ['a field number of zero', Buffer.from([0x02, 0x00])],
    ['an unknown wire type', Buffer.from([0x0f, 0x00])],
    ['the end of a group that never began', Buffer.from([0x0c])],
    ['groups without end', Buffer.alloc(200_000, 0x0b)],
    ['a frame of an unknown kind', Buffer.concat([named({ id: 'x', streamId: 's' }), Buffer.from([0x3a, 1, 0x61])])],
    ['an event', named({ id: 'x', streamId: 's', body: { case: 'event', value: { name: 'TaskComplete' } } })],
    ['a reply', named({ id: 'x', streamId: 's', body: { case: 'reply', value: { content: 'hello' } } })],
    ['an error', named({ id: 'x', streamId: 's', body: { case: 'error', value: { code: 1 } } })],
    ['an id of 129 characters', submission('x'.repeat(129), 's', { prompt: 'hello' })],
    ['a session of 129 characters', submission('x', 's'.repeat(129), { prompt: 'hello' })],
    ['no session', submission('x', '', { prompt: 'hello' })],
    ['an empty prompt', submission('x', 's', { prompt: '' })],
    ['a blank prompt', submission('x', 's', { prompt: ' \n' })],
    ['an unknown on_busy', Buffer.from([0x12, 1, 0x73, 0x1a, 5, 0x0a, 1, 0x61, 0x20, 9])],
    ['an unknown model', submission('x', 's', { prompt: 'hello', model: 'nobody/knows' })],
    ['a megabyte of noise', Buffer.concat([Buffer.of(0x0f), randomBytes((1 << 20) - 1)])],
  ];

  it('a binary message that is no submission is refused with -32602 and the reason, one by one, and the connection continues', async () => {
    await start();
    const client = await fixture.connect();
    const binary = binaryOf(client);
    for (const [name, bytes] of MALFORMED) {
      const before = binary.received.length;
      binary.send(bytes);
      await binary.until(() => binary.received.length > before);
      const error = errorOf(binary.received[before] ?? (await binary.answer('')));
      expect({ name, code: error.code, reason: error.reason, retryable: error.retryable }).toEqual({
        name,
        code: -32602,
        reason: 'invalid_params',
        retryable: false,
      });
      const { issues } = JSON.parse(error.dataJson);
      expect(issues[0].message, name).toMatch(/./);
      expect(error.dataJson.length, name).toBeLessThan(500);
    }
    expect(binary.received).toHaveLength(MALFORMED.length);
    binary.submit('still', 's', { prompt: 'here' });
    expect((await binary.answer('still')).frame.body.case).toBe('reply');
    fixture.services.log.flush();
    expect(fixture.logged.filter((line) => /"severity":"(ERROR|CRITICAL)"/.test(line))).toEqual([]);
  });

  it.each([
    ['stream_id', submission('x', '', { prompt: 'hello' })],
    ['stream_id', submission('x', 's'.repeat(129), { prompt: 'hello' })],
    ['id', submission('x'.repeat(129), 's', { prompt: 'hello' })],
    ['model', submission('x', 's', { prompt: 'hello', model: 'm'.repeat(129) })],
  ])('a binary message that is no submission is refused with the field that is wrong: %s', async (path, bytes) => {
    await start();
    const binary = binaryOf(await fixture.connect());
    binary.send(bytes);
    const error = errorOf(await binary.until(({ body }) => body.case === 'error'));
    const { issues } = JSON.parse(error.dataJson);
    expect(issues[0]).toMatchObject({ path, message: expect.stringMatching(/./) });
    expect(error.message).toContain(path);
    expect(error.message).not.toContain('session_id');
  });

  it('a binary message that is no submission is answered under the names that could be read', async () => {
    await start();
    const binary = binaryOf(await fixture.connect());
    binary.submit('mine', 's', { prompt: '' });
    expect((await binary.answer('mine')).frame.streamId).toBe('s');
  });
});

describe('the gates of text hold for binary', () => {
  it('binary messages need the scope of text: a key without conversation is refused with 403', async () => {
    const keys = [{ id: 'hooks', key: 'hooks', scopes: ['webhook'] }];
    await start({ env: { GATEWAY_KEYS: JSON.stringify({ keys }) } });
    const binary = binaryOf(await fixture.connect({ headers: { 'X-API-Key': 'hooks' } }));
    binary.submit('a', 's', { prompt: 'hello' });
    const error = errorOf(await binary.answer('a'));
    expect(error).toMatchObject({ code: 403, reason: 'forbidden' });
    expect(JSON.parse(error.dataJson)).toMatchObject({ missing_scope: 'conversation' });
    expect(binary.received).toHaveLength(1);
  });

  it('binary messages cost 1 each, malformed or not, and a refusal contains the delay before a retry', async () => {
    await start({ env: { GATEWAY_LIMITS: '3/day' } });
    const client = await fixture.connect();
    const binary = binaryOf(client);
    binary.send(Buffer.of(0xff));
    await binary.answer('');
    binary.submit('a', 's', { prompt: 'hello' });
    await binary.answer('a');
    await client.call('conversation.status', { session_id: 's' });
    binary.submit('b', 's', { prompt: 'hello' });
    const error = errorOf(await binary.answer('b'));
    expect(error).toMatchObject({ code: 429, reason: 'rate_limited', retryable: true });
    expect(error.retryAfterMs).toBeGreaterThan(0);
    expect(JSON.parse(error.dataJson)).toMatchObject({ limit: 3, remaining: 0, retry_after_ms: error.retryAfterMs });
    binary.send(Buffer.of(0xff));
    expect(
      errorOf(await binary.until(({ id, body }) => id === '' && body.case === 'error' && body.value.code === 429)).code,
    ).toBe(429);
  });

  it('binary calls count among the calls in flight: the 33rd waits for a place, whatever form it has', async () => {
    const waiting: (() => void)[] = [];
    const begun = Promise.withResolvers<void>();
    const wait = defineMethod({
      name: 'test.wait',
      summary: 'test',
      scope: null,
      cost: 'read',
      params: z.strictObject({}),
      result: z.object({}),
      example: { params: {}, result: {} },
      async handle() {
        await new Promise<void>((resolve) => {
          if (waiting.push(resolve) === 32) begun.resolve();
        });
        return {};
      },
    });
    await start({ methods: [wait] });
    const client = await fixture.connect();
    const binary = binaryOf(client);
    const calls = Array.from({ length: 32 }, () => client.call('test.wait'));
    binary.submit('a', 's', { prompt: 'hello' });
    await begun.promise;
    client.socket.ping();
    await once(client.socket, 'pong');
    expect(binary.received).toEqual([]);
    for (const go of waiting) go();
    expect((await binary.answer('a')).frame.body.case).toBe('reply');
    await Promise.all(calls);
  });
});

describe('with a model that can be made to wait, a submission', () => {
  let provider: ModelProvider;
  beforeEach(async () => {
    provider = await startModelProvider();
    await start({
      env: { ANTHROPIC_API_KEY: 'sk-test', ANTHROPIC_BASE_URL: provider.url, MODEL: 'anthropic/claude-sonnet-4-5' },
    });
  });
  afterEach(() => provider.close());

  it('a submission is refused with 409 while its session is busy, and ends with 499 when text cancels it', async () => {
    const client = await fixture.connect();
    const binary = binaryOf(client);
    binary.submit('long', 's', { prompt: 'wait [[hang]]' });
    await binary.until(({ body }) => body.case === 'event' && body.value.name === 'AgentMessageDelta');
    binary.submit('second', 's', { prompt: 'me too' });
    expect(errorOf(await binary.answer('second'))).toMatchObject({
      code: 409,
      reason: 'session_busy',
      retryable: true,
    });
    binary.submit('other', 't', { prompt: 'beside it' });
    expect((await binary.answer('other')).frame).toMatchObject({ body: { value: { content: 'You said: beside it' } } });
    expect((await client.call('conversation.cancel', { session_id: 's' })).result).toMatchObject({ was_running: true });
    const error = errorOf(await binary.answer('long'));
    expect(error).toMatchObject({ code: 499, reason: 'cancelled' });
    expect(JSON.parse(error.dataJson)).toMatchObject({ session_id: 's' });
    expect(client.received.filter(({ method }) => method !== undefined)).toEqual([]);
  });

  it('a submission loses nothing when its client stops reading for a while', async () => {
    const slow = await fixture.connect();
    const binary = binaryOf(slow);
    slow.socket.pause();
    binary.submit('a', 's', { prompt: '[[size 2000000]]' });
    const other = await fixture.connect();
    const status = async (): Promise<unknown> =>
      (await other.call('conversation.status', { session_id: 's' })).result?.status;
    await expect.poll(status).toBe('idle');
    slow.socket.resume();
    const { body } = (await binary.answer('a')).frame;
    const deltas = binary.received.map(({ frame: { body } }) =>
      body.case === 'event' && body.value.name === 'AgentMessageDelta' ? JSON.parse(body.value.json).delta : '',
    );
    expect(deltas.join('').length).toBeGreaterThanOrEqual(2_000_000);
    // The reply repeats all of it, in one message that would be larger than a message may be.
    expect(body).toMatchObject({ case: 'error', value: { code: 413, reason: 'payload_too_large' } });
  });
});
