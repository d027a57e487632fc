// Runs a prompt for `conversation.prompt` and `proto`: its params, the place where it runs, its turn and its answer.
import { z } from 'zod';
import { type PromptAnswer, toAnswer } from '../conversations/turns/end/answer.ts';
import type { TurnHandle } from '../conversations/turns/follow/turn-readers.ts';
import { placeOfLogin, placeOfModel } from '../engines/place.ts';
import { type Reason, RpcError } from '../errors.ts';
import { HEADERS } from '../protocol.ts';
import type { Place } from '../rpc/method.ts';
import type { MethodContext } from './define-method.ts';
import { Prompt, toPrompt } from './schemas/prompt-parts.ts';
import { SessionId } from './schemas/schemas.ts';
import { OutputSchemaParam, Settings, toOutputSchema } from './schemas/settings.ts';
import { readLastEventId, streamTurn } from './stream-turn.ts';

const IDEMPOTENCY_KEY_CHARS_MAX = 255;
const FALLBACKS_MAX = 3;

export const PromptParams = z.strictObject({
  prompt: Prompt,
  session_id: SessionId.optional().describe('Continues this session, or creates it; default: a new session'),
  model: z.string().min(1).max(128).optional().describe('`provider/model`; default: the deployment’s'),
  instructions: z.string().max(100_000).optional().describe('System instructions for this turn'),
  settings: Settings.optional(),
  output_schema: OutputSchemaParam.optional(),
  fallbacks: z
    .array(z.string().min(1).max(128))
    .max(FALLBACKS_MAX)
    .optional()
    .describe('Models to call in this order if the one before fails, before its answer has begun'),
  on_busy: z
    .enum(['reject', 'queue', 'interrupt'])
    .default('reject')
    .describe('Behaviour while another turn of the session runs'),
  after_seq: z
    .int()
    .min(0)
    .optional()
    .describe('The prompt follows this message of the session; later messages are dropped (edit, regenerate)'),
  idempotency_key: z
    .string()
    .min(1)
    .max(IDEMPOTENCY_KEY_CHARS_MAX)
    .optional()
    .describe('The same key within 24 h runs once and returns the same answer; also as header Idempotency-Key'),
  auth_session_id: SessionId.optional().describe('`session_id` of auth.login: the turn uses only its credentials'),
});

/** Reasons with which a prompt can fail, in addition to those of every call. */
export const PROMPT_ERRORS = [
  'session_busy',
  'queue_full',
  'storage_full',
  'rate_limited',
  'idempotency_in_flight',
  'cancelled',
  'upstream_error',
  'upstream_timeout',
  'unavailable',
  'not_found',
] as const satisfies readonly Reason[];

/** Only a prompt with a login and without a model needs a read. */
export function placeOfPrompt(
  { model, fallbacks = [], auth_session_id: login }: z.output<typeof PromptParams>,
  { services, caller, signal }: Pick<MethodContext, 'services' | 'caller' | 'signal'>,
): Place | Promise<Place> {
  if (fallbacks.some((other) => placeOfModel(other) === 'companion')) return 'companion';
  if (model !== undefined || login === undefined) return placeOfModel(model ?? services.engines.defaultModel);
  return services.logins
    .providerOf(caller.keyId, login, signal)
    .then((provider) => (provider === undefined ? 'local' : placeOfLogin(provider)));
}

/** Runs the turn and returns its answer; also used by `proto` and binary frames. */
export async function answerPrompt(
  params: z.output<typeof PromptParams>,
  context: MethodContext,
): Promise<PromptAnswer> {
  const { services, caller, requestMetadata, admitted } = context;
  // A repeated request after a cut stream: the events of the turn continue after `Last-Event-ID`, and nothing runs
  // again.
  const stopped = context.transport === 'sse' ? readLastEventId(requestMetadata.lastEventId) : undefined;
  if (stopped !== undefined) {
    await admitted;
    const turn = await services.conversations.resume(caller.keyId, params.session_id, stopped.turnId, context.signal);
    return toAnswer(turn.turnId, await streamTurn(turn, stopped.afterSeq, context));
  }
  if (params.after_seq !== undefined && params.session_id === undefined) {
    const issues = [{ path: 'after_seq', message: 'needs the session_id of the session whose message it names' }];
    throw new RpcError('invalid_params', { data: { issues } });
  }
  const turn = await startTurn(params, context).finally(() => context.ride?.end('left'));
  const ended = await streamTurn(turn, 0, context);
  return toAnswer(turn.turnId, ended);
}

async function startTurn(params: z.output<typeof PromptParams>, context: MethodContext): Promise<TurnHandle> {
  const { services, caller, requestMetadata, admitted, ride } = context;
  ride?.expect();
  const login = params.auth_session_id;
  const prepared = services.conversations.prepare(caller.keyId, params.session_id);
  const used = login === undefined ? undefined : services.logins.use(caller.keyId, login, context.signal);
  // Awaited below, after the decision of the limiter.
  used?.catch(() => {});
  if (ride === undefined) await admitted;
  const credential = await used;
  return services.conversations.prompt(
    {
      owner: caller.keyId,
      ...toPrompt(params.prompt),
      sessionId: params.session_id,
      model: params.model,
      instructions: params.instructions,
      settings: params.settings,
      fallbacks: params.fallbacks,
      outputSchema: params.output_schema === undefined ? undefined : toOutputSchema(params.output_schema),
      onBusy: params.on_busy,
      afterSeq: params.after_seq,
      canForward: context.canForward === true,
      isStreamed: context.transport !== 'http',
      idempotencyKey: params.idempotency_key ?? checkKey(requestMetadata.idempotencyKey),
      prepared,
      counting: ride && { ride, admitted },
      ...(login !== undefined && credential !== undefined && { login: { sessionId: login, credential } }),
    },
    context.signal,
  );
}

/** A long header is refused, not truncated, because two long keys could become equal. */
function checkKey(key: string | undefined): string | undefined {
  if (key === undefined || key.length <= IDEMPOTENCY_KEY_CHARS_MAX) return key;
  throw new RpcError('invalid_params', {
    data: {
      issues: [{ path: HEADERS.idempotencyKey, message: `must be at most ${IDEMPOTENCY_KEY_CHARS_MAX} characters` }],
    },
  });
}
