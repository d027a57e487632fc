// Reads the variable MODEL_PROVIDERS: servers with the wire of OpenAI, chat completions or Responses. Their names are
// the first part of their models' ids.
import { z } from 'zod';
import { headerText, headerValue, inlineOrFile, url } from './fields.ts';
import { OWN_PREFIXES, PROVIDER_NAME } from './model-id.ts';

/** One server with the wire of OpenAI. */
export interface ModelProvider {
  readonly baseUrl: string;
  readonly apiKey?: string;
  readonly wire: 'chat' | 'responses';
  /** Sent with every call; their values count as secrets. */
  readonly headers: Readonly<Record<string, string>>;
}

const PROVIDERS_MAX = 100;
const FORM = '{"name": {"base_url": "https://...", "api_key": "...", "wire": "chat" or "responses", "headers": {}}}';
/** Headers of the exchange itself, which the HTTP client sets. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  ...['accept-encoding', 'connection', 'content-length', 'content-type', 'expect', 'host', 'keep-alive'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade', 'proxy-authorization', 'proxy-connection', 'traceparent'],
]);
const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]{1,128}$/;

const Provider = z.strictObject({
  base_url: url,
  api_key: headerValue.optional(),
  wire: z.enum(['chat', 'responses']),
  headers: z.record(z.string(), headerText).default({}),
});

export interface ReadModelProviders {
  readonly providers: ReadonlyMap<string, ModelProvider>;
  /** One line per mistake. An entry with a mistake is left out. */
  readonly problems: readonly string[];
}

/** Throws for a value that is no JSON object. No message contains a value, because it may be a credential. */
export function readModelProviders(text: string): ReadModelProviders {
  const document = toObject(inlineOrFile(text));
  const entries = Object.entries(document);
  if (entries.length > PROVIDERS_MAX) throw new Error(`must have at most ${PROVIDERS_MAX} providers`);
  const providers = new Map<string, ModelProvider>();
  const problems: string[] = [];
  for (const [name, entry] of entries) {
    const read = readEntry(name, entry);
    if (Array.isArray(read)) problems.push(...read);
    else providers.set(name, read);
  }
  return { providers, problems };
}

function toObject(text: string): object {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new Error(`is not JSON; the form is ${FORM}`);
  }
  if (typeof document === 'object' && document !== null && !Array.isArray(document)) return document;
  throw new Error(`must be a JSON object; the form is ${FORM}`);
}

function readEntry(name: string, entry: unknown): ModelProvider | string[] {
  if (!PROVIDER_NAME.test(name))
    return [
      `${quote(name)}: a name has lower-case letters, digits and hyphens, starts with a letter, at most 32 of them`,
    ];
  if (OWN_PREFIXES.has(name)) return [`${name}: is the name of a provider of the gateway itself; choose another`];
  const { data, error } = Provider.safeParse(entry);
  if (data === undefined) return error.issues.map((issue) => `${name}${toPlace(issue)}: ${toMessage(issue, entry)}`);
  const { base_url: baseUrl, api_key: apiKey, wire, headers } = data;
  const problems = headerProblems(headers, apiKey !== undefined).map((problem) => `${name}.headers: ${problem}`);
  if (problems.length > 0) return problems;
  return { baseUrl, ...(apiKey !== undefined && { apiKey }), wire, headers };
}

function headerProblems(headers: Readonly<Record<string, string>>, hasKey: boolean): string[] {
  const seen = new Set<string>();
  return Object.keys(headers).flatMap((name) => {
    const lower = name.toLowerCase();
    const isTwice = seen.has(lower);
    seen.add(lower);
    if (!HEADER_NAME.test(name)) return [`a name is not valid: ${toShown(name)}`];
    if (isTwice) return [`${name} is there twice`];
    if (OWN_HEADERS.has(lower)) return [`${name} is set by the gateway`];
    return hasKey && lower === 'authorization' ? [`${name} is set from api_key; remove one of the two`] : [];
  });
}

function toPlace({ path }: z.core.$ZodIssue): string {
  return path.map((step) => `.${toShown(String(step))}`).join('');
}

/** Of the name of a header that is none only the beginning: its value may follow. */
function toShown(name: string): string {
  const [beginning = ''] = name.split(/[^\w-]/);
  return HEADER_NAME.test(name) ? name : `${beginning.slice(0, 64)}…`;
}

function toMessage(issue: z.core.$ZodIssue, entry: unknown): string {
  const isMissing = issue.path.length === 1 && !Object.hasOwn(Object(entry), issue.path[0] ?? '');
  if (isMissing) return issue.path[0] === 'wire' ? 'is required: "chat" or "responses"' : 'is required';
  if (issue.code === 'unrecognized_keys')
    return `${issue.keys.map(quote).join(', ')} not known; an entry has ${Object.keys(Provider.shape).join(', ')}`;
  if (issue.code === 'invalid_value') return 'must be "chat" or "responses"';
  if (issue.code === 'invalid_type') return issue.expected === 'string' ? 'must be a text' : 'must be an object';
  return issue.message;
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 64));
}
