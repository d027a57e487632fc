// What a model id is: one rule for the configuration at start and for the calls that name a model. It resolves no
// engine.
/** Answers at once; always resolvable, as all of this engine's. */
export const OFFLINE_MODEL = 'offline/echo';
/** The same answer word by word, so that streams and Cancel can be tried without any account. */
export const OFFLINE_SLOW_MODEL = 'offline/slow';

export const OFFLINE_MODELS: ReadonlySet<string> = new Set([OFFLINE_MODEL, OFFLINE_SLOW_MODEL]);

const MODEL_CHARS_MAX = 128;
/** `provider/` of every model that needs an account. */
const PROVIDER_PREFIXES: ReadonlySet<string> = new Set(['anthropic', 'openai', 'google', 'codex']);
/**
 * The part after the provider may hold slashes (`endpoints/123`, `@cf/meta/llama-3`), but no component begins with a
 * dot: a provider's client puts the id into a path.
 */
const MODEL_PATTERN = /^([a-z][a-z0-9-]*)\/[A-Za-z0-9@_][\w.:@+-]*(?:\/[A-Za-z0-9@_][\w.:@+-]*)*$/;

/**
 * What is wrong with a model id; undefined when nothing is. Whether the provider has credentials is a question of use.
 */
export function modelIdIssue(model: string): string | undefined {
  if (OFFLINE_MODELS.has(model)) return undefined;
  if (model.length > MODEL_CHARS_MAX) return `must be at most ${MODEL_CHARS_MAX} characters`;
  const provider = MODEL_PATTERN.exec(model)?.[1];
  if (provider === undefined) return 'must be provider/model, for example anthropic/claude-sonnet-5-5';
  if (PROVIDER_PREFIXES.has(provider)) return undefined;
  const known = [...[...PROVIDER_PREFIXES].map((name) => `${name}/…`), ...OFFLINE_MODELS];
  return `unknown model ${model}; known: ${known.join(', ')}`;
}
