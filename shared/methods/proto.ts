// `proto`: the same turn as `conversation.prompt`, in binary (shared/proto/gateway.proto).
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { checkParams } from '../rpc/params/issues.ts';
import { defineMethod } from './define-method.ts';
import { answerPrompt, PROMPT_ERRORS, PromptParams, placeOfPrompt } from './prompt-turn.ts';
import { SessionId } from './schemas/schemas.ts';

export const proto = defineMethod({
  name: 'proto',
  summary: 'Sends a prompt as a protobuf Submission and returns a protobuf Reply (gateway.proto)',
  scope: 'conversation',
  cost: 'work',
  isTurn: true,
  startsEarly: true,
  params: z.strictObject({
    stream_id: SessionId.describe('The session: `session_id` of conversation.prompt'),
    data: z.string().min(1).max(1_400_000).describe('Base64 of a Submission'),
  }),
  result: z.object({ stream_id: z.string(), data: z.string().describe('Base64 of a Reply') }),
  errors: PROMPT_ERRORS,
  example: {
    params: { stream_id: 'session-123', data: 'CgVIZWxsbw==' },
    result: { stream_id: 'session-123', data: 'CgJIaRILc2Vzc2lvbi0xMjM=' },
  },
  placeOf: async (params, context) => placeOfPrompt(await toPrompt(params), context),
  async handle(params, context) {
    const { encodeReply } = await import('../proto/codec.ts');
    const answer = await answerPrompt(await toPrompt(params), context);
    return { stream_id: params.stream_id, data: Buffer.from(encodeReply(answer)).toString('base64') };
  },
});

/**
 * The Submission as params of `conversation.prompt`, validated by the same schema. Throws RpcError
 * `invalid_params`.
 */
async function toPrompt({ stream_id, data }: { readonly stream_id: string; readonly data: string }) {
  const { decodeSubmission, toPromptParams } = await import('../proto/codec.ts');
  const checked = checkParams(PromptParams, toPromptParams(stream_id, decodeSubmission(data)));
  if ('params' in checked) return checked.params;
  const issues = checked.issues.map(({ path, message }) => ({ path: `data.${path}`, message }));
  throw new RpcError('invalid_params', { data: { issues } });
}
