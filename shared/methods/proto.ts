// `proto`: the same turn as `conversation.prompt`, in binary (shared/proto/gateway.proto).
import { z } from 'zod';
import { needsCompanion } from '../engines/needs-companion.ts';
import { RpcError } from '../errors.ts';
import { answerPrompt, conversationPrompt } from './conversation.prompt.ts';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas.ts';

export const proto = defineMethod({
  name: 'proto',
  summary: 'Sends a prompt as a protobuf Submission and answers with a protobuf Reply (gateway.proto)',
  scope: 'conversation',
  cost: 'work',
  params: z.strictObject({
    stream_id: SessionId.describe('The session, as `session_id` of conversation.prompt'),
    data: z.string().min(1).max(1_400_000).describe('Base64 of a Submission'),
  }),
  result: z.object({ stream_id: z.string(), data: z.string().describe('Base64 of a Reply') }),
  ...(conversationPrompt.errors && { errors: conversationPrompt.errors }),
  example: {
    params: { stream_id: 'session-123', data: 'CgVIZWxsbw==' },
    result: { stream_id: 'session-123', data: 'CgJIaRILc2Vzc2lvbi0xMjM=' },
  },
  async needsProcess({ stream_id, data }, { services }) {
    const { decodeSubmission, toPromptParams } = await import('../proto/codec.ts');
    const { model } = toPromptParams(stream_id, decodeSubmission(data));
    return needsCompanion(typeof model === 'string' ? model : services.engines.defaultModel);
  },
  async handle({ stream_id, data }, context) {
    const { decodeSubmission, encodeReply, toPromptParams } = await import('../proto/codec.ts');
    const parsed = conversationPrompt.params.safeParse(toPromptParams(stream_id, decodeSubmission(data)));
    if (!parsed.success) {
      const issues = parsed.error.issues.map(({ path, message }) => ({ path: `data.${path.join('.')}`, message }));
      throw new RpcError('invalid_params', { data: { issues } });
    }
    const answer = await answerPrompt(parsed.data, context);
    return { stream_id, data: Buffer.from(encodeReply(answer)).toString('base64') };
  },
});
