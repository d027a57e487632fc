// Starts a prompt: budget of tokens, admission, tools, then the turn on this instance. A prompt whose idempotency key
// is taken starts nothing.
import type { Ids } from '../../clock.ts';
import type { Config } from '../../config/config.ts';
import type { Credential, Engines } from '../../engines/engine.ts';
import { takesImages } from '../../engines/images.ts';
import { contextTokens } from '../../engines/models/context-tokens.ts';
import { resolveModels } from '../../engines/models/resolve-models.ts';
import { fitToolset } from '../../engines/tools/fit-tools.ts';
import { RpcError } from '../../errors.ts';
import type { OutputSchema } from '../../json/output-schema.ts';
import { boundTokens } from '../../messages/estimate-tokens.ts';
import type { MessagePart } from '../../messages/message-parts.ts';
import type { TurnSettings } from '../../messages/turn-settings.ts';
import type { Counting } from '../../store/ride.ts';
import { admitPrompt } from '../admission/admission.ts';
import { hashParams } from '../admission/idempotency.ts';
import { type PreparedPrompt, preparePrompt } from '../admission/prepare.ts';
import type { AdmissionDeps, PromptRequest } from '../admission/prompt-request.ts';
import type { ConversationDocument } from '../records/documents.ts';
import type { OnBusy } from './lease.ts';
import { startTurn } from './run/turn-runner.ts';
import type { RunningTurn } from './turn.ts';

/** The longest wait for a provider's Retry-After if the caller receives no stream. */
const UNSTREAMED_WAIT_MS_MAX = 10_000;

export interface PromptParams {
  readonly owner: string;
  readonly prompt: string;
  /** Of a prompt with images; `prompt` is its text. */
  readonly parts?: readonly MessagePart[] | undefined;
  /** Undefined: a new session is created. */
  readonly sessionId: string | undefined;
  readonly model: string | undefined;
  readonly instructions: string | undefined;
  /** Models that are called if the ones before them fail. */
  readonly fallbacks?: readonly string[] | undefined;
  readonly settings?: TurnSettings | undefined;
  readonly outputSchema?: OutputSchema | undefined;
  readonly onBusy: OnBusy;
  /** The prompt follows this message; later ones are dropped. */
  readonly afterSeq?: number | undefined;
  readonly idempotencyKey: string | undefined;
  /** The call can be forwarded to a companion, and is (RunsOnCompanion) when the session has MCP servers. */
  readonly canForward?: boolean;
  /** The caller receives the turn's events. Otherwise the wait for a provider's Retry-After is short. */
  readonly isStreamed?: boolean;
  /** The caller's own credential, and the login that contains it. */
  readonly login?: { readonly sessionId: string; readonly credential: Credential } | undefined;
  /** The reads of this prompt, if they have begun before. */
  readonly prepared?: PreparedPrompt;
  /** The call is not counted yet. */
  readonly counting?: Counting | undefined;
}

export interface PromptDeps extends AdmissionDeps {
  readonly config: Config;
  readonly engines: Engines;
  readonly ids: Ids;
}

export type StartedPrompt =
  | { readonly kind: 'started'; readonly conversation: ConversationDocument; readonly turn: RunningTurn }
  /** The idempotency key is taken: this turn is the answer. */
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string };

export async function startPrompt(deps: PromptDeps, params: PromptParams): Promise<StartedPrompt> {
  const { engines, config, ids } = deps;
  const { owner, instructions, idempotencyKey, login } = params;
  const { fallbacks = [] } = params;
  const named = { model: params.model, fallbacks, credential: login?.credential };
  const [{ engine, model }, ...others] = resolveModels(engines, named);
  const takesImagesOf = (name: string) => takesImages(name, config, deps.clock.now());
  if (params.parts !== undefined) await refuseImages([model, ...others.map((other) => other.model)], takesImagesOf);
  const sessionId = params.sessionId ?? ids.next('sess');
  const startMs = performance.now();
  engine.prepare?.(model);
  const prepared = params.prepared ?? preparePrompt(deps, params);
  const refusal = await prepared.refusal;
  // A duplicate of an idempotency key is answered even if the token budget is used up.
  if (refusal !== undefined && idempotencyKey === undefined) throw refusal;
  await prepared.session;
  const admitted = await admitPrompt(deps, {
    owner,
    sessionId,
    isNew: params.sessionId === undefined,
    prompt: params.prompt,
    parts: params.parts,
    model,
    onBusy: params.onBusy,
    afterSeq: params.afterSeq,
    canForward: params.canForward === true,
    refusal,
    idempotency: toIdempotency(params),
    counting: params.counting,
  });
  if (admitted.kind === 'duplicate') return admitted;
  const { conversation } = admitted;
  const schemaBytes = Buffer.byteLength(JSON.stringify(params.outputSchema ?? ''));
  const textBytes = Buffer.byteLength(instructions ?? '') + schemaBytes;
  const prepare = (name: string) => {
    const tools = fitToolset(admitted.tools, name);
    const otherTokens = boundTokens(textBytes + (tools?.chars ?? 0));
    const takesImages = () => takesImagesOf(name);
    return { tools, takesImages, budgetTokens: budgetOf(conversation, name, config.models) - otherTokens };
  };
  const turn = startTurn(deps, {
    ...admitted,
    ...prepare(model),
    engine,
    fallbacks: others.map((other) => ({ ...other, prepare: () => prepare(other.model) })),
    instructions,
    settings: params.settings,
    outputSchema: params.outputSchema,
    credential: login?.credential,
    retryWaitMsMax: params.isStreamed === false ? UNSTREAMED_WAIT_MS_MAX : undefined,
    prefetched: prepared.messages,
    spans: [{ phase: 'admission', startMs, endMs: performance.now() }],
  });
  return { kind: 'started', conversation, turn };
}

/** Throws `invalid_params` if a model is known to take no images. */
async function refuseImages(models: readonly string[], takes: (model: string) => Promise<boolean>): Promise<void> {
  for (const model of models) {
    if (await takes(model)) continue;
    throw new RpcError('invalid_params', {
      data: { issues: [{ path: 'prompt', message: `${model} takes no images` }] },
    });
  }
}

function toIdempotency(params: PromptParams): PromptRequest['idempotency'] {
  const { idempotencyKey: key, prompt, model, instructions, settings, outputSchema, login } = params;
  if (key === undefined) return undefined;
  const place = { session_id: params.sessionId, onBusy: params.onBusy, after_seq: params.afterSeq };
  const others = { ...place, auth_session_id: login?.sessionId };
  // No fallbacks and an empty list are the same.
  const fallbacks = params.fallbacks?.length ? params.fallbacks : undefined;
  const hashed = {
    prompt: params.parts ?? prompt,
    model,
    instructions,
    settings,
    output_schema: outputSchema,
    fallbacks,
    ...others,
  };
  return { key, paramsHash: hashParams(hashed) };
}

/**
 * The budget of the table or of the operator, or a lower one if the provider has refused this conversation as too long.
 */
function budgetOf({ budgets = [] }: ConversationDocument, model: string, models: Config['models']): number {
  const known = budgets.find((budget) => budget.model === model)?.tokens ?? Number.POSITIVE_INFINITY;
  return Math.min(contextTokens(model, models), known);
}
