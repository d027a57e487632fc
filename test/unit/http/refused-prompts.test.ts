// Params of a prompt that cannot be used are refused in plain words on every transport, before a model is called,
// tokens are counted or anything is stored.
import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CodexGatewayClient } from '../../../shared/client/gateway-client.ts';
import type { Methods } from '../../../shared/client/methods.ts';
import { SubmissionSchema } from '../../../shared/proto/gateway_pb.ts';
import { createFixture, type Fixture, failure } from '../../support/fixtures/gateway/client.ts';

type Params = Methods['conversation.prompt']['params'];
type Submission = Parameters<typeof create<typeof SubmissionSchema>>[1];

let fixture: Fixture;
let clients: Readonly<Record<'sse' | 'websocket', CodexGatewayClient>>;
beforeAll(async () => {
  fixture = await createFixture();
  clients = { sse: fixture.client(), websocket: fixture.client({ streaming: 'websocket' }) };
  await clients.sse.call('conversation.prompt', { prompt: 'one', session_id: 'one' });
});
afterAll(() => fixture.close());

const PNG = Buffer.from('89504e470d0a1a0a0000000d', 'hex');
const IMAGE = { type: 'image', media_type: 'image/png', data: PNG.toString('base64') } as const;

interface Row {
  readonly what: string;
  readonly params: Partial<Params> & { readonly tools?: readonly object[] };
  /** The same in protobuf. */
  readonly submission?: Submission;
  readonly path: string;
  readonly message: RegExp;
}

const ROWS: readonly Row[] = [
  {
    what: 'a schema that is no JSON Schema',
    params: { output_schema: { type: 'list' } },
    submission: { outputSchemaJson: '{"type":"list"}' },
    path: 'output_schema',
    message: /is not a JSON Schema: type must be string, number/,
  },
  {
    what: 'a setting out of range',
    params: { settings: { temperature: 3 } },
    submission: { settings: { temperature: 3 } },
    path: 'settings.temperature',
    message: /must be at most 2$/,
  },
  {
    what: 'an image to a model of texts',
    params: { model: 'offline/echo', prompt: [IMAGE] },
    submission: {
      model: 'offline/echo',
      prompt: '',
      parts: [{ part: { case: 'image', value: { mediaType: 'image/png', data: PNG } } }],
    },
    path: 'prompt',
    message: /^offline\/echo takes no images$/,
  },
  {
    what: 'a number beyond the end of the session',
    params: { session_id: 'one', after_seq: 3 },
    submission: { afterSeq: 3 },
    path: 'after_seq',
    message: /^must be at most 2, the number of the last message of the session$/,
  },
  {
    what: 'four fallbacks',
    params: { fallbacks: Array.from({ length: 4 }, () => 'offline/echo') },
    submission: { fallbacks: Array.from({ length: 4 }, () => 'offline/echo') },
    path: 'fallbacks',
    message: /at most 3/,
  },
  {
    what: 'a param that does not exist',
    params: { tools: [] },
    path: 'tools',
    message: /^tools is not known$/,
  },
];

const TRANSPORTS: Readonly<Record<string, (params: Params, submission: Submission | undefined) => Promise<unknown>>> = {
  HTTP: (params) => clients.sse.call('conversation.prompt', params),
  'an event stream': (params) => clients.sse.stream(params).answer(),
  WebSocket: (params) => clients.websocket.stream(params).answer(),
  protobuf: ({ session_id = 'new' }, submission) => {
    const bytes = toBinary(SubmissionSchema, create(SubmissionSchema, { prompt: 'hi', ...submission }));
    return clients.sse.call('proto', { stream_id: session_id, data: Buffer.from(bytes).toString('base64') });
  },
};

describe.each(ROWS)('a prompt with $what', ({ params, submission, path, message }) => {
  const transports = Object.keys(TRANSPORTS).filter((name) => name !== 'protobuf' || submission !== undefined);
  it.each(transports)('a prompt with $what is refused over %s', async (name) => {
    const { calls } = fixture.provider;
    const status = () => clients.sse.call('conversation.status', { session_id: params.session_id ?? 'new' });
    const before = await status();
    const sent = { prompt: 'hi', session_id: 'new', ...params };
    const error = await failure(TRANSPORTS[name]?.(sent, submission) ?? Promise.resolve());
    expect({ code: error.code, issues: error.data.issues }).toEqual({
      code: -32602,
      issues: [
        { path: expect.stringMatching(new RegExp(`^(data\\.)?${path}$`)), message: expect.stringMatching(message) },
      ],
    });
    expect(fixture.provider.calls).toBe(calls);
    expect(await status()).toEqual(before);
  });
});

it.each(['sse', 'websocket'] as const)('a fork of a deleted session is refused, over %s', async (streaming) => {
  const client = clients[streaming];
  await client.call('conversation.prompt', { prompt: 'one', session_id: 'deleted' });
  await client.call('conversation.delete', { session_id: 'deleted' });
  const fork = client.call('conversation.fork', { session_id: 'deleted', new_session_id: 'fork' });
  expect(await failure(fork)).toMatchObject({ reason: 'not_found' });
  expect(await client.call('conversation.status', { session_id: 'fork' })).toMatchObject({ status: 'not_found' });
});
