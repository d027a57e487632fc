// A prompt with fallbacks has the same answer, the same first event and the same line in the log over every transport.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { ReplySchema, SubmissionSchema } from '../../../shared/proto/gateway_pb.ts';
import type { EventBody } from '../../../shared/turn-events.ts';
import { createFixture, type Fixture } from '../../support/fixtures/gateway/client.ts';

const FIRST = 'anthropic/claude-first';
const NEXT = 'anthropic/claude-next';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
  fixture.provider.behave(({ model }) => (model === 'claude-next' ? { text: 'from the next' } : { status: 403 }));
});
afterAll(() => fixture.close());

interface Answered {
  readonly content: string;
  readonly model: string;
  readonly first: EventBody | undefined;
}

const TRANSPORTS: readonly (readonly [name: string, prompt: (session: string) => Promise<Answered>])[] = [
  [
    'json',
    async (session_id) => {
      const params = { prompt: 'hello', session_id, model: FIRST, fallbacks: [NEXT] };
      const { content, model, events } = await fixture.client().call('conversation.prompt', params);
      return { content, model, first: events[0] };
    },
  ],
  ...(['sse', 'websocket'] as const).map(
    (streaming) =>
      [
        streaming,
        async (session_id: string) => {
          const params = { prompt: 'hello', session_id, model: FIRST, fallbacks: [NEXT] };
          const turn = fixture.client({ streaming }).stream(params);
          const first = (await turn.next()).value?.event;
          const { content, model } = await turn.answer();
          return { content, model, first };
        },
      ] as const,
  ),
  [
    'proto',
    async (stream_id) => {
      const submission = create(SubmissionSchema, { prompt: 'hello', model: FIRST, fallbacks: [NEXT] });
      const data = Buffer.from(toBinary(SubmissionSchema, submission)).toString('base64');
      const { data: answer } = await fixture.client().call('proto', { stream_id, data });
      const { content, model, events } = fromBinary(ReplySchema, Buffer.from(answer, 'base64'));
      return { content, model, first: { [events[0]?.name ?? '']: JSON.parse(events[0]?.json ?? '{}') } };
    },
  ],
];

it.each(TRANSPORTS)(
  'the answer, its first event and the log name the model that answered and the one that failed: %s',
  async (name, prompt) => {
    const answered = await prompt(name);
    expect(answered).toMatchObject({ content: 'from the next', model: NEXT });
    expect(answered.first?.TaskStarted).toMatchObject({
      model: NEXT,
      fallback_from: [{ model: FIRST, reason: 'upstream_error', message: expect.stringContaining('403') }],
    });
    const lines = fixture.gateway
      .logged()
      .split('\n')
      .filter((line) => line.includes(`"session_id":"${name}"`));
    expect(lines.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ model: NEXT, fallback_from: FIRST, provider: 'anthropic' }),
    );
  },
);

it('a prompt with more than three fallbacks is refused on the wire', async () => {
  const fallbacks = ['a/1', 'a/2', 'a/3', 'a/4'];
  const refused = fixture.client().call('conversation.prompt', { prompt: 'hello', fallbacks });
  await expect(refused).rejects.toMatchObject({ code: -32602, message: 'fallbacks must have at most 3 entries' });
});
