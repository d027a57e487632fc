// The commands of `npm run gateway -- keys`: reads the arguments and prints the keys of a deployment.
import { parseArgs } from 'node:util';
import { addKey, KeyEditError, type ListedKey, listKeys, revokeKey } from '../../../shared/auth/keys/edit-secret.ts';
import type { SecretVersions } from '../../../shared/auth/keys/secret-versions.ts';

export const USAGE = `usage: npm run -s gateway -- keys [options] add ID | list | revoke ID

  add ID        creates a key and prints it once; where the ID has a key already, both are valid until one is revoked
  list          prints the keys of all enabled versions, without key material
  revoke ID     removes all keys of the ID, or those of --sha256

options
  --project P     default: GOOGLE_CLOUD_PROJECT
  --secret S      default: gateway-api-key
  --scopes A,B    scopes of a new key; default: all
  --limits L      limits of a new key, e.g. 100/minute,1000/hour; default: those of the deployment
  --expires-at T  end of a new key, e.g. 2027-01-31T00:00:00Z; default: none
  --sha256 HEX    first digits of the digest of the key to revoke, as list prints them
`;

/** The first digits of a SHA-256. */
const SHA256 = /^[\da-f]{1,64}$/i;

/** A mistake in the command line. */
export class KeysUsageError extends Error {}

interface Io {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Connects to a secret by its full name. */
  readonly connect: (secret: string) => Promise<SecretVersions>;
  /** Receives the result: the new key, or the table. */
  readonly out: (text: string) => void;
  /** Receives messages for people. */
  readonly note: (text: string) => void;
}

/** `argv`: the arguments after `keys`. Throws KeysUsageError, KeyEditError, or the error of Secret Manager. */
export async function runKeys(argv: readonly string[], { env, connect, out, note }: Io): Promise<void> {
  const { values, positionals } = read(argv);
  const [command, id, ...rest] = positionals;
  if (values.help === true) return out(USAGE);
  if (command === undefined || !['add', 'list', 'revoke'].includes(command)) {
    throw new KeysUsageError('the command is missing or unknown: add, list or revoke');
  }
  if (rest.length > 0 || (command === 'list' && id !== undefined)) throw new KeysUsageError('too many arguments');
  if (command !== 'list' && id === undefined) throw new KeysUsageError(`${command} needs the id of the key`);
  // An empty value would be the start of every digest.
  if (values.sha256 !== undefined && !SHA256.test(values.sha256)) {
    throw new KeysUsageError('--sha256 needs the first digits of a digest, as list prints them');
  }
  const project = values.project ?? env.GOOGLE_CLOUD_PROJECT;
  if (project === undefined || project === '') throw new KeysUsageError('set GOOGLE_CLOUD_PROJECT, or --project');

  const secret = await connect(`projects/${project}/secrets/${values.secret ?? 'gateway-api-key'}`);
  try {
    if (command === 'list') return out(toTable(await listKeys(secret)));
    if (id === undefined) return;
    if (command === 'add') {
      const { scopes, limits, 'expires-at': expiresAt } = values;
      const key = await addKey(secret, {
        id,
        ...(scopes !== undefined && { scopes: scopes.split(',').map((scope) => scope.trim()) }),
        ...(limits !== undefined && { limits }),
        ...(expiresAt !== undefined && { expiresAt }),
      });
      note('The key is printed once and not stored. Instances accept it from its first call on.\n');
      return out(`${key}\n`);
    }
    const removed = await revokeKey(secret, id, values.sha256);
    if (removed === 0) throw new KeyEditError(`no enabled version has such a key of ${id}: see keys list`);
    note(`${removed} ${removed === 1 ? 'key' : 'keys'} of ${id} removed; refused everywhere within 70 s\n`);
  } finally {
    secret.close();
  }
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        project: { type: 'string' },
        secret: { type: 'string' },
        scopes: { type: 'string' },
        limits: { type: 'string' },
        'expires-at': { type: 'string' },
        sha256: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new KeysUsageError(error instanceof Error ? error.message : String(error));
  }
}

const HEADINGS = ['id', 'sha256', 'version', 'expires', 'limits', 'scopes'];

function toTable(keys: readonly ListedKey[]): string {
  const rows = keys.map((row) => {
    if ('problem' in row) return ['-', '-', String(row.version), '-', '-', `not valid: ${row.problem}`];
    const { id, scopes, limits, expiresAtMs } = row.key;
    return [
      id,
      row.sha256.slice(0, 12),
      String(row.version),
      expiresAtMs === undefined ? '-' : new Date(expiresAtMs).toISOString(),
      limits === undefined ? '-' : limits.map(({ max, windowMs }) => `${max}/${windowMs / 1_000}s`).join(','),
      [...scopes].join(','),
    ];
  });
  const widths = HEADINGS.map((heading, index) =>
    Math.max(heading.length, ...rows.map((row) => row[index]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join('  ')
      .trimEnd();
  return `${[HEADINGS, ...rows].map(line).join('\n')}\n`;
}
