// Readers of the environment variables that hold URLs, lists or JSON documents. They throw an Error whose message is
// the line of the mistake.
import { z } from 'zod';
import { inlineOrFile, url } from './fields.ts';
import { type ApiKey, parseKeyDocument } from './key-document.ts';

/** Parses the key document at start, so that a mistake is reported at start. */
export function readKeys(document: string): { readonly document: string; readonly keys: readonly ApiKey[] } {
  return { document, keys: parseKeyDocument(document) };
}

export function readKeyDocument(text: string): ReturnType<typeof readKeys> {
  const document = inlineOrFile(text);
  // A bare value is refused: a file name without @ would become a key.
  if (document.trimStart().startsWith('{')) return readKeys(document);
  throw new Error(
    'must be the JSON document {"keys": [{"id": "...", "key": "..."}]}, inline or @file; one bare key is ' +
      'GATEWAY_API_KEY',
  );
}

const Backends = z.record(
  z.string().regex(/^[\w-]{1,64}$/),
  z.strictObject({ base_url: url, internal: z.boolean().default(false) }),
);

export function readBackends(value: string): readonly (readonly [string, { baseUrl: string; internal: boolean }])[] {
  const form =
    'must be JSON of the form {"name": {"base_url": "https://...", "internal": false}}, URLs without user and password';
  let document: unknown;
  try {
    document = JSON.parse(inlineOrFile(value));
  } catch {
    throw new Error(form);
  }
  const parsed = Backends.safeParse(document);
  if (!parsed.success) throw new Error(form);
  return Object.entries(parsed.data).map(([name, { base_url, internal }]) => [name, { baseUrl: base_url, internal }]);
}

const tokens = z.int().min(1).max(1_000_000_000);
const usdPerMillion = z.number().min(0).max(1_000_000);
const ModelFacts = z.strictObject({
  context_tokens: tokens.optional(),
  max_output_tokens: tokens.optional(),
  input: z
    .array(z.enum(['text', 'image', 'file', 'audio', 'video']))
    .min(1)
    .optional(),
  reasoning: z.boolean().optional(),
  output_schema: z.boolean().optional(),
  price: z
    .strictObject({
      input: usdPerMillion,
      output: usdPerMillion,
      cached_input: usdPerMillion.optional(),
      cache_write: usdPerMillion.optional(),
    })
    .optional(),
});
export type ModelFacts = z.output<typeof ModelFacts>;
const Models = z.record(z.string(), ModelFacts);
const MODELS_MAX = 1_000;

export function readModels(text: string): ReadonlyMap<string, ModelFacts> {
  let document: unknown;
  try {
    document = JSON.parse(inlineOrFile(text));
  } catch (error) {
    throw new Error(error instanceof SyntaxError ? 'is not JSON' : String((error as Error).message));
  }
  const { data, error } = Models.safeParse(document);
  if (data === undefined) {
    const [issue] = error.issues;
    const form = '{"provider/model": {"context_tokens", "max_output_tokens", "price": {"input", "output"}}}';
    throw new Error(`${issue?.path.join('.') || 'the document'}: ${issue?.message}; the form is ${form}`);
  }
  if (Object.keys(data).length > MODELS_MAX) throw new Error(`must have at most ${MODELS_MAX} models`);
  return new Map(Object.entries(data));
}

export function readWebhookSecrets(text: string): string[] {
  const secrets = text.split(/\s+/).filter((part) => part !== '');
  const wrong = secrets.findIndex((secret) => !/^whsec_[A-Za-z0-9+/]{2,}={0,2}$|^github:.+$/.test(secret));
  if (wrong !== -1) throw new Error(`entry ${wrong + 1} must be whsec_<base64> or github:<secret>`);
  return secrets;
}

export function readOrigins(text: string): Set<string> {
  const origins = text.split(/[\s,]+/).filter((part) => part !== '');
  const wrong = origins.find((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin);
  if (wrong !== undefined) throw new Error(`${wrong} must be an exact origin such as https://app.example.com`);
  return new Set(origins);
}
