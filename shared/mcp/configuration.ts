// What a caller requested of mcp.connect, as it is stored: sealed, because arguments, variables, URL and headers may be
// secrets.
import { type KeyWrapper, open, seal } from '../auth/logins/envelope.ts';
import { RpcError } from '../errors.ts';
import type { ServerConfig } from './connect.ts';
import type { McpConnectionDocument } from './documents.ts';

export interface Configuration {
  readonly config: ServerConfig;
  readonly allowedTools: readonly string[] | undefined;
}

export type SealedConfiguration = Pick<McpConnectionDocument, 'configuration' | 'sealed'>;

/** Whose connection it is. */
export interface ConnectionName {
  readonly owner: string;
  readonly id: string;
}

/** For one document, with its other fields. */
const CONFIGURATION_BYTES_MAX = 192 << 10;

/**
 * `wrapper` undefined: the deployment has nothing to seal with. Throws RpcError `forbidden` then, unless the server is
 * a registered one; `invalid_params` for a configuration that is too large; `unavailable` when the key cannot be
 * reached.
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
  return { configuration: null, sealed: await seal(wrapper, text, bindingOf(name), signal) };
}

/** Undefined when the key that sealed it is gone. Throws RpcError `unavailable` when the key cannot be reached. */
export async function openConfiguration(
  wrapper: KeyWrapper | undefined,
  { configuration, sealed }: SealedConfiguration,
  name: ConnectionName,
  signal: AbortSignal,
): Promise<Configuration | undefined> {
  const text = configuration ?? (wrapper && sealed ? await open(wrapper, sealed, bindingOf(name), signal) : undefined);
  // Written by `sealConfiguration`.
  return text === undefined ? undefined : JSON.parse(text);
}

/** Whether both request the same. */
export function isSame(one: Configuration, other: Configuration): boolean {
  return JSON.stringify([one.config, one.allowedTools]) === JSON.stringify([other.config, other.allowedTools]);
}

/** What the seal holds together: a document that is moved to another owner or connection does not open. */
function bindingOf({ owner, id }: ConnectionName): Uint8Array {
  return Buffer.from(JSON.stringify(['gateway.mcp.v1', owner, id]));
}

function tooLarge(): RpcError {
  const message = `must be at most ${CONFIGURATION_BYTES_MAX >> 10} KiB, allowed_tools included`;
  return new RpcError('invalid_params', { data: { issues: [{ path: 'server_config', message }] } });
}

function noKey(): RpcError {
  return new RpcError('forbidden', {
    message: 'Forbidden: this deployment has no key to seal the configuration with; its operator sets KMS_KEY',
    data: { disabled_by: 'deployment' },
  });
}
