// Adds, lists and revokes the keys of a secret: reads its newest key document, changes it, adds it as a new version and
// disables the version that it replaces. Versions with a bare key stay as they are until their key is revoked.
//
// Disabling with the etag of the version that was read is the commit: of two operators who change the same document at
// once, the second one's version is disabled again and its change is made anew. So no change is lost.
import { createHash } from 'node:crypto';
import { type ApiKey, KeyDocumentError, parseKeyDocument } from '../../config/values/key-document.ts';
import { GRPC, statusOf } from '../../grpc/grpc-status.ts';
import { createApiKey } from './create-api-key.ts';
import { type SecretVersion, type SecretVersions, VERSIONS_MAX, versionNumber } from './secret-versions.ts';

/** A change that was refused. The message contains the reason and what to do. */
export class KeyEditError extends Error {}

export interface NewKey {
  readonly id: string;
  readonly scopes?: readonly string[];
  /** As in a key document, e.g. `100/minute,1000/hour`. */
  readonly limits?: string;
  /** RFC 3339. */
  readonly expiresAt?: string;
}

/** One key of an enabled version, or a version that is no key document. */
export type ListedKey =
  | { readonly version: number; readonly sha256: string; readonly key: ApiKey }
  | { readonly version: number; readonly problem: string };

interface Document {
  readonly version: SecretVersion;
  /** As it is stored, with members that this version does not define; undefined for a bare key. */
  readonly json: { readonly keys: readonly Readonly<Record<string, unknown>>[] } | undefined;
  readonly keys: readonly ApiKey[];
}

/** Largest payload of a version that Secret Manager stores. */
const PAYLOAD_BYTES_MAX = 65_536;
const ATTEMPTS = 5;
/** A user of a key is `<key id>:<user>`, so an id of its own may not contain the separator. */
const ID = /^[\x21-\x39\x3b-\x7e]{1,128}$/;

/** The keys of all enabled versions, those of the newest version first. */
export async function listKeys(secret: SecretVersions): Promise<ListedKey[]> {
  const rows = await Promise.all(
    (await secret.listEnabled()).map(async ({ name }): Promise<ListedKey[]> => {
      const version = versionNumber(name);
      try {
        const { keys } = parse(await secret.access(name));
        return keys.map((key) => ({ version, sha256: hexOf(key), key }));
      } catch (error) {
        if (error instanceof KeyDocumentError) return [{ version, problem: error.message }];
        throw error;
      }
    }),
  );
  return rows.flat();
}

/**
 * Adds a key with an id of its own, or another key of an id (a rotation: both are valid). Only the digest is stored.
 * Returns the key. Throws KeyEditError.
 */
export async function addKey(secret: SecretVersions, { id, scopes, limits, expiresAt }: NewKey): Promise<string> {
  if (!ID.test(id)) throw new KeyEditError('the id must be 1 to 128 visible ASCII characters without ":"');
  const key = createApiKey();
  const entry = {
    id,
    sha256: createHash('sha256').update(key).digest('hex'),
    ...(scopes !== undefined && { scopes }),
    ...(limits !== undefined && { limits }),
    ...(expiresAt !== undefined && { expires_at: expiresAt }),
  };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const versions = await secret.listEnabled();
    const current = await newestDocument(secret, versions);
    const grown = encode({ ...current?.json, keys: [...(current?.json?.keys ?? []), entry] });
    // A full document is not changed, and the key is stored in a new one.
    const replaced = grown.length <= PAYLOAD_BYTES_MAX ? current : undefined;
    if (replaced === undefined && versions.length >= VERSIONS_MAX) {
      throw new KeyEditError(
        `the secret has ${versions.length} enabled versions, and instances use ${VERSIONS_MAX}: ` +
          'disable versions that are no longer needed',
      );
    }
    const payload = replaced === undefined ? encode({ keys: [entry] }) : grown;
    validate(payload);
    if (await replace(secret, replaced?.version, payload)) return key;
  }
  throw new KeyEditError('the keys were changed by others at the same time: run the command again');
}

/**
 * Removes the keys of an id, or those of them whose SHA-256 begins with `sha256`, from every enabled version. Returns
 * the number of removed keys. Throws KeyEditError.
 */
export async function revokeKey(secret: SecretVersions, id: string, sha256 = ''): Promise<number> {
  const isRevoked = (key: ApiKey): boolean => key.id === id && hexOf(key).startsWith(sha256.toLowerCase());
  const removed = new Set<string>();
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const versions = await secret.listEnabled();
    const documents = (await Promise.all(versions.map((version) => read(secret, version)))).filter(
      (document) => document !== undefined,
    );
    const affected = documents.filter(({ keys }) => keys.some(isRevoked));
    if (affected.length === 0) return removed.size;
    if (!documents.some(({ keys }) => keys.some((key) => !isRevoked(key)))) {
      throw new KeyEditError('this would leave no valid key: add another key first');
    }
    for (const document of affected) {
      const left = document.json?.keys.filter((_, index) => {
        const key = document.keys[index];
        return key !== undefined && !isRevoked(key);
      });
      const payload = left?.length ? encode({ ...document.json, keys: left }) : undefined;
      if (!(await replace(secret, document.version, payload))) continue;
      for (const key of document.keys.filter(isRevoked)) removed.add(hexOf(key));
    }
  }
  throw new KeyEditError('the keys were changed by others at the same time: run the command again');
}

/**
 * Adds `payload` in place of a version. Returns false, and disables the added version, when that version has changed.
 * When it is unknown whether that version was disabled, both stay as they are: disabling the added one too could leave
 * no valid key.
 */
async function replace(
  secret: SecretVersions,
  replaced: SecretVersion | undefined,
  payload: Uint8Array | undefined,
): Promise<boolean> {
  const added = payload && (await secret.add(payload));
  if (replaced === undefined) return true;
  try {
    await secret.disable(replaced);
    return true;
  } catch (error) {
    if (!hasStatus(error, GRPC.failedPrecondition, GRPC.aborted)) throw toUnknownOutcome(error, replaced, added);
    if (added !== undefined) await secret.disable(added);
    return false;
  }
}

function toUnknownOutcome(cause: unknown, replaced: SecretVersion, added: SecretVersion | undefined): KeyEditError {
  const addition = added === undefined ? '' : `version ${versionNumber(added.name)} has been added, but `;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message =
    `${addition}it is unknown whether version ${versionNumber(replaced.name)} was disabled: ` +
    `see keys list, and run the command again (${reason})`;
  return new KeyEditError(message, { cause });
}

async function newestDocument(
  secret: SecretVersions,
  versions: readonly SecretVersion[],
): Promise<Document | undefined> {
  for (const version of versions) {
    const document = await read(secret, version);
    if (document?.json !== undefined) return document;
  }
  return undefined;
}

/** Undefined: the version has been disabled since it was listed, or is no key document. */
async function read(secret: SecretVersions, version: SecretVersion): Promise<Document | undefined> {
  try {
    return { version, ...parse(await secret.access(version.name)) };
  } catch (error) {
    if (error instanceof KeyDocumentError || hasStatus(error, GRPC.failedPrecondition)) return undefined;
    throw error;
  }
}

function parse(payload: Uint8Array): Pick<Document, 'json' | 'keys'> {
  const text = Buffer.from(payload).toString('utf8').trim();
  const keys = parseKeyDocument(text);
  return { keys, json: text.startsWith('{') ? JSON.parse(text) : undefined };
}

/** Throws KeyEditError: scopes, limits or the time are not those of a key document. */
function validate(payload: Uint8Array): void {
  try {
    parse(payload);
  } catch (error) {
    if (error instanceof KeyDocumentError) throw new KeyEditError(error.message);
    throw error;
  }
}

function encode(document: object): Uint8Array {
  return Buffer.from(JSON.stringify(document));
}

function hexOf({ digest }: ApiKey): string {
  return Buffer.from(digest).toString('hex');
}

function hasStatus(error: unknown, ...codes: readonly number[]): boolean {
  const status = statusOf(error);
  return status !== undefined && codes.includes(status);
}
