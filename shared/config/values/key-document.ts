// Parses the keys that an operator stores: one bare key, or a JSON document of several. Only the digest of a key is
// kept. No message of this file contains any part of a key.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Limit } from './limits.ts';
import { parseLimits } from './limits.ts';
import { isMisspelt } from './spelling.ts';

export const SCOPES = ['conversation', 'workspace', 'mcp', 'auth', 'proxy', 'webhook', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

/** One valid key, stored as its digest only. */
export interface ApiKey {
  readonly id: string;
  /** SHA-256 of the key's UTF-8 bytes, 32 bytes. */
  readonly digest: Uint8Array;
  readonly scopes: ReadonlySet<Scope>;
  /** Limits of this key; undefined: the deployment's. */
  readonly limits?: readonly Limit[];
  /** Epoch milliseconds. */
  readonly expiresAtMs?: number;
}

/** Values for keys whose document does not set them. */
export interface KeyDefaults {
  /** Scopes of a bare key and of an entry without `scopes`; default: all. */
  readonly scopes?: readonly Scope[];
}

/**
 * The payload is not a valid key document. The message names position and reason, never the value, and is safe to log.
 */
export class KeyDocumentError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'KeyDocumentError';
  }
}

const KEY = /^[\x21-\x7e]{1,1024}$/;
const KEYS_MAX = 1000;

const Entry = z
  .looseObject({
    id: z.string().regex(/^[\x20-\x7e]{1,128}$/),
    key: z.string().regex(KEY).optional(),
    sha256: z
      .string()
      .regex(/^[0-9a-fA-F]{64}$/)
      .optional(),
    scopes: z.array(z.enum(SCOPES)).optional(),
    limits: z.union([z.string(), z.array(z.string())]).optional(),
    expires_at: z.iso.datetime({ offset: true }).optional(),
  })
  .refine((entry) => (entry.key === undefined) !== (entry.sha256 === undefined));
const MEMBERS = Object.keys(Entry.shape);
const Document = z.looseObject({ keys: z.array(Entry).min(1).max(KEYS_MAX) });

/**
 * `payload`: one bare key (key id `default`) or `{"keys":[{"id","key"|"sha256","scopes"?,"limits"?,"expires_at"?}]}`;
 * white space around it is ignored. Unknown members are ignored with a message to `warn`, because a newer version may
 * have added them. A misspelt member is an error, because a key with a misspelt `expires_at` would never expire. Throws
 * KeyDocumentError.
 */
export function parseKeyDocument(
  payload: string,
  defaults: KeyDefaults = {},
  warn: (message: string) => void = () => {},
): ApiKey[] {
  const text = payload.trim();
  const scopes: ReadonlySet<Scope> = new Set(defaults.scopes ?? SCOPES);
  if (!text.startsWith('{')) {
    if (!KEY.test(text)) {
      throw new KeyDocumentError('a bare key must be 1 to 1024 visible ASCII characters without spaces');
    }
    return [{ id: 'default', digest: digestOf(text), scopes }];
  }
  const document = readDocument(text);
  checkMembers(document, warn);
  const keys = document.keys.map((entry, index) => toApiKey(entry, index, scopes));
  if (new Set(keys.map((key) => Buffer.from(key.digest).toString('hex'))).size < keys.length) {
    throw new KeyDocumentError('two entries of the document have the same key');
  }
  return keys;
}

function readDocument(text: string): z.output<typeof Document> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // V8's message quotes the text around the error, which may be a key, so it is not even used as the cause.
    throw new KeyDocumentError('the key document is not valid JSON');
  }
  const parsed = Document.safeParse(json);
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.join('.') || 'document'}: ${WHY[issue.code]}`);
  throw new KeyDocumentError(`the key document is not valid: ${where.join('; ')}`);
}

/** The messages do not repeat names of members, because a misplaced key would be one. */
function checkMembers({ keys, ...others }: z.output<typeof Document>, warn: (message: string) => void): void {
  const ignored = Object.keys(others).length > 0 ? ['document'] : [];
  for (const [index, entry] of keys.entries()) {
    const unknown = Object.keys(entry).filter((name) => !MEMBERS.includes(name));
    const meant = MEMBERS.find((member) => unknown.some((name) => isMisspelt(name.toLowerCase(), member)));
    if (meant !== undefined) {
      throw new KeyDocumentError(
        `the key document is not valid: keys.${index}: a member looks like a misspelt ${meant}`,
      );
    }
    if (unknown.length > 0) ignored.push(`keys.${index}`);
  }
  if (ignored.length === 0) return;
  const where =
    ignored.length > 5 ? `${ignored.slice(0, 5).join(', ')} and ${ignored.length - 5} more` : ignored.join(', ');
  warn(`the key document has members that this version does not use, and ignores: ${where}`);
}

// The messages of zod may quote values and unknown member names, so each kind of issue has its own message here.
const WHY: Readonly<Record<z.core.$ZodIssue['code'], string>> = {
  invalid_type: 'is missing or of the wrong type',
  too_small: 'has too few elements',
  too_big: 'has too many elements',
  invalid_format: 'is not of the required form',
  unrecognized_keys: 'has an unknown member',
  invalid_value: `is none of ${SCOPES.join(', ')}`,
  invalid_union: 'is of the wrong type',
  custom: 'must have exactly one of key and sha256',
  not_multiple_of: 'is not valid',
  invalid_key: 'is not valid',
  invalid_element: 'is not valid',
};

function toApiKey(entry: z.output<typeof Entry>, index: number, defaultScopes: ReadonlySet<Scope>): ApiKey {
  return {
    id: entry.id,
    digest: entry.key === undefined ? Buffer.from(entry.sha256 ?? '', 'hex') : digestOf(entry.key),
    scopes: entry.scopes === undefined ? defaultScopes : new Set(entry.scopes),
    ...(entry.limits === undefined ? {} : { limits: readLimits(entry.limits, index) }),
    ...(entry.expires_at === undefined ? {} : { expiresAtMs: Date.parse(entry.expires_at) }),
  };
}

function readLimits(limits: string | string[], index: number): Limit[] {
  try {
    return parseLimits(limits);
  } catch {
    // The text may be a misplaced key, so the message does not quote it.
    throw new KeyDocumentError(
      `the key document is not valid: keys.${index}.limits: must be like 100/minute,1000/hour`,
    );
  }
}

function digestOf(key: string): Uint8Array {
  return createHash('sha256').update(key).digest();
}
