// Adapts a command and its limits to what its workspace allows, and refuses one that cannot be started.

import { DEFAULT_LIMITS, LONG_RUNNING_LIMITS } from '../limits.ts';
import { diskFull, toDeleter, withNotice } from '../quota/disk-notice.ts';
import type { DiskAccess } from '../quota/measured-workspace.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { tooLong } from './sandbox-process.ts';

/**
 * Limits of execve(2): the size of one string, and of all arguments and environment variables together, minus what the
 * sandbox adds.
 */
const STRING_BYTES_MAX = (128 << 10) - 1;
const STRINGS_BYTES_MAX = 1900 << 10;

/** Throws RpcError `unavailable` for a long-running process in a workspace that is full. */
export function toAllowed(spec: SandboxSpec, isLong: boolean, hasTerminal: boolean, access: DiskAccess) {
  // A long-running process cannot use a read-only workspace: it would fail later, without a clear message.
  if (isLong && !hasTerminal && access !== 'write') throw diskFull();
  const limits = {
    ...(isLong ? LONG_RUNNING_LIMITS : DEFAULT_LIMITS),
    ...spec.limits,
    ...(access !== 'write' && { fileBytes: 0 }),
  };
  const deleter = access === 'remove' ? toDeleter(spec.argv[0]) : undefined;
  const readOnly = access === 'remove' && deleter === undefined;
  const requested: SandboxSpec['argv'] = deleter === undefined ? spec.argv : [deleter, ...spec.argv.slice(1)];
  return { argv: hasTerminal ? withNotice(requested, access) : requested, limits, readOnly, hasTerminal };
}

/**
 * Throws for a command that is too long. Starting bwrap would not fail, because it receives the environment through a
 * pipe.
 */
export function checkLength({ argv, env = {} }: SandboxSpec): void {
  const strings = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
  const sizes = strings.map((text) => Buffer.byteLength(text));
  const sum = sizes.reduce((total, bytes) => total + bytes + 9, 0);
  if (sum > STRINGS_BYTES_MAX || sizes.some((bytes) => bytes > STRING_BYTES_MAX)) throw tooLong();
}
