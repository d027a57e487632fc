// The parameters of mcp.connect as they are stored: encrypted, because arguments, variables, URL and headers may
// contain secrets.
import { type KeyWrapper, open, seal } from '../../auth/logins/envelope.ts';
import { RpcError } from '../../errors.ts';
import type { McpConnectionDocument } from './documents.ts';

/** What a caller may configure. A name alone refers to a server that the administrator registered. */
export type ServerConfig =
  | { readonly name: string; readonly command: string; readonly args: readonly string[]; readonly env: Environment }
  | { readonly name: string; readonly url: string; readonly headers: Environment }
  | { readonly name: string };

type Environment = Readonly<Record<string, string>>;

export interface Configuration {
  readonly config: ServerConfig;
  readonly allowedTools: readonly string[] | undefined;
}

export type SealedConfiguration = Pick<McpConnectionDocument, 'configuration' | 'sealed'>;

/** Identifies the connection in the associated data of the encryption. */
export interface ConnectionName {
  readonly owner: string;
  readonly id: string;
}

/** Leaves room in a document for its other fields. */
const CONFIGURATION_BYTES_MAX = 192 << 10;

/**
 * `wrapper` is undefined if no encryption key is configured. Then only registered servers can be stored; for others,
 * throws RpcError `forbidden`. Throws `invalid_params` for a configuration that is too large, `unavailable` when the
 * key service cannot be reached.
 */
export async function sealConfiguration(
  wrapper: KeyWrapper | undefined,
  configuration: Configuration,
  name: ConnectionName,
  signal: AbortSignal,
): Promise<SealedConfiguration> {
  const text = JSON.stringify(configuration);
  if (Buffer.byteLength(text) > CONFIGURATION_BYTES_MAX) throw tooLarge();
  const { config } = configuration;
  if (!('command' in config) && !('url' in config)) return { configuration: text, sealed: null };
  if (wrapper === undefined) throw noKey();
  return { configuration: null, sealed: await seal(wrapper, text, associatedDataOf(name), signal) };
}

/**
 * Undefined if the key that encrypted it does not exist any more. Throws RpcError `unavailable` when the key service
 * cannot be reached.
 */
export async function openConfiguration(
  wrapper: KeyWrapper | undefined,
  { configuration, sealed }: SealedConfiguration,
  name: ConnectionName,
  signal: AbortSignal,
): Promise<Configuration | undefined> {
  const text =
    configuration ?? (wrapper && sealed ? await open(wrapper, sealed, associatedDataOf(name), signal) : undefined);
  // `sealConfiguration` wrote this text.
  return text === undefined ? undefined : JSON.parse(text);
}

/** Whether both configurations are equal. */
export function isEqual(one: Configuration, other: Configuration): boolean {
  return JSON.stringify([one.config, one.allowedTools]) === JSON.stringify([other.config, other.allowedTools]);
}

/** Additional authenticated data (AAD): decryption fails if the document was moved to another owner or connection. */
function associatedDataOf({ owner, id }: ConnectionName): Uint8Array {
  return Buffer.from(JSON.stringify(['gateway.mcp.v1', owner, id]));
}

function tooLarge(): RpcError {
  const message = `must be at most ${CONFIGURATION_BYTES_MAX >> 10} KiB, allowed_tools included`;
  return new RpcError('invalid_params', { data: { issues: [{ path: 'server_config', message }] } });
}

function noKey(): RpcError {
  return new RpcError('forbidden', {
    message: 'Forbidden: this deployment has no key to encrypt the configuration; its operator must set KMS_KEY',
    data: { disabled_by: 'deployment' },
  });
}
