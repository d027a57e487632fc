// A binary frame is a call like any other, checked here without a socket: what it counts, and what an instance without
// memory answers.
import { fromBinary } from '@bufbuild/protobuf';
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { readFrame } from '../../../shared/proto/frames.ts';
import { FrameSchema } from '../../../shared/proto/gateway_pb.ts';
import { submission } from '../../support/fixtures/clients/proto-client.ts';

const ANSWER = {
  ...{ content: 'hi', session_id: 's', conversation_id: 'c', turn_id: 't', model: 'm', timestamp: '' },
  ...{ usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 }, events: [] },
};
const frame = submission('f', 's', { prompt: 'hello', model: 'a/b' });

it('a frame is a call of conversation.prompt, whose params are never written as JSON', () => {
  const params = { prompt: 'hello', session_id: 's', model: 'a/b' };
  expect(readFrame(frame, () => true).call).toEqual({ id: 'f', method: 'conversation.prompt', params });
});

it('the bytes of a frame and of its answer are counted', () => {
  const counted: number[] = [];
  const { answers } = readFrame(frame, (bytes) => counted.push(bytes) > 0);
  const reply = answers('req').success('f', ANSWER, false);
  expect(counted).toEqual([frame.length, reply.length]);
});

it('a reply has the complete answer: parsed output, warnings, number in the history, details of the usage', () => {
  const { answers } = readFrame(frame, () => true);
  const usage = { ...ANSWER.usage, cached_input_tokens: 3, reasoning_tokens: 4 };
  const warnings = [{ setting: 'seed', message: 'no' }];
  const bytes = answers('req').success('f', { ...ANSWER, usage, warnings, output: [1], message_seq: 2 }, false);
  expect(fromBinary(FrameSchema, bytes).body).toMatchObject({
    value: { outputJson: '[1]', warnings, messageSeq: 2, usage: { cachedInputTokens: 3n, reasoningTokens: 4n } },
  });
});

it('a frame is refused with 503 where the instance has no memory for it', () => {
  const { call, answers } = readFrame(frame, () => false);
  const error = 'error' in call ? call.error : new RpcError('internal');
  expect(fromBinary(FrameSchema, answers('req').failure('f', error))).toMatchObject({
    body: { case: 'error', value: { code: 503, reason: 'unavailable', retryable: true } },
  });
});

it('a frame whose answer finds no memory is refused in a way that does not make its client repeat it', () => {
  const { answers } = readFrame(frame, (bytes) => bytes === frame.length);
  expect(() => answers('req').success('f', ANSWER, false)).toThrow(
    expect.objectContaining({ reason: 'payload_too_large', retryable: false }),
  );
});

it('the details of an error that JSON cannot contain are left out', () => {
  const { answers } = readFrame(frame, () => true);
  const bytes = answers('req').failure('f', new RpcError('conflict', { data: { count: 1n } }));
  const { body } = fromBinary(FrameSchema, bytes);
  const dataJson = body.case === 'error' ? body.value.dataJson : '';
  expect(JSON.parse(dataJson)).toEqual({ reason: 'conflict', request_id: 'req', retryable: true });
});
