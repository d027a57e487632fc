// Validates model ids, by one rule for the configuration and for the params of calls. Does not resolve the engine.
/** Answers at once. The models of the offline engine are always available. */
export const OFFLINE_MODEL = 'offline/echo';
/** Streams the same answer word by word, so that streams and cancellation can be tried without an account. */
export const OFFLINE_SLOW_MODEL = 'offline/slow';

export const OFFLINE_MODELS: ReadonlySet<string> = new Set([OFFLINE_MODEL, OFFLINE_SLOW_MODEL]);

const MODEL_CHARS_MAX = 128;
/** The gateway's own providers whose models need an account. */
const PROVIDER_PREFIXES: ReadonlySet<string> = new Set(['anthropic', 'openai', 'google', 'codex']);
/** Names that no provider of the operator may have. */
export const OWN_PREFIXES: ReadonlySet<string> = new Set([...PROVIDER_PREFIXES, 'offline']);
/** A provider of the operator. */
export const PROVIDER_NAME = /^[a-z][a-z0-9-]{0,31}$/;
/**
 * The part after the provider may contain slashes (`endpoints/123`, `@cf/meta/llama-3`). No component starts with a
 * dot, because clients of providers insert the id into a URL path.
 */
const MODEL_PATTERN = /^([a-z][a-z0-9-]*)\/[A-Za-z0-9@_][\w.:@+-]*(?:\/[A-Za-z0-9@_][\w.:@+-]*)*$/;

/**
 * The error message for an invalid model id; undefined for a valid one. `more`: the providers of the operator. Does not
 * check whether the provider has credentials.
 */
export function modelIdIssue(model: string, more: Iterable<string>): string | undefined {
  if (OFFLINE_MODELS.has(model)) return undefined;
  if (model.length > MODEL_CHARS_MAX) return `must be at most ${MODEL_CHARS_MAX} characters`;
  const provider = MODEL_PATTERN.exec(model)?.[1];
  if (provider === undefined) return 'must be provider/model, for example anthropic/claude-sonnet-5-5';
  const prefixes = new Set([...PROVIDER_PREFIXES, ...more]);
  if (prefixes.has(provider)) return undefined;
  const known = [...[...prefixes].map((name) => `${name}/…`), ...OFFLINE_MODELS];
  return `unknown model ${model}; known: ${known.join(', ')}`;
}

/** `provider/model` -> `provider`; '' for a name of another form. */
export function providerOf(model: string): string {
  return model.slice(0, Math.max(0, model.indexOf('/')));
}
