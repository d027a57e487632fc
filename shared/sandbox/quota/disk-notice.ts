// The messages to callers when the disk is full, and the programs that may still change a workspace then.
import { RpcError } from '../../errors.ts';
import type { SandboxSpec } from '../sandbox.ts';
import type { DiskAccess } from './measured-workspace.ts';

const NOTICES: Readonly<Record<DiskAccess | 'killed', string>> = {
  write: '',
  killed: 'killed, the workspace is full, or the disk is; delete something',
  delete: 'the workspace is full, or the disk is: nothing can be written until you delete something',
  remove:
    'the workspace is full and has grown further: it is read-only until you delete something with rm or ' +
    'rmdir as the command',
};

/** Appended to the stderr of a command that failed. */
export function diskNotice(access: DiskAccess, isKilled: boolean): Buffer[] {
  const text = NOTICES[isKilled ? 'killed' : access];
  return text === '' ? [] : [Buffer.from(`\nsandbox: ${text}\n`)];
}

/** Changes a command so that it first prints the message on its terminal. */
export function withNotice(argv: SandboxSpec['argv'], access: DiskAccess): SandboxSpec['argv'] {
  if (NOTICES[access] === '') return argv;
  return ['/bin/sh', '-c', 'printf "sandbox: %s\\n" "$0"; exec "$@"', NOTICES[access], ...argv];
}

/** The error for long-running processes (an MCP server, a Codex process). */
export function diskFull(): RpcError {
  return new RpcError('unavailable', {
    message: 'The workspace is full, or the disk is: delete something with exec and try again',
    data: { disk_full: true },
    retryAfterMs: 10_000,
  });
}

/** Returns the absolute path of a system program that can only delete, if `program` names one. */
export function toDeleter(program: string): string | undefined {
  const name = /^(?:\/usr\/bin\/|\/bin\/)?(rm|rmdir)$/.exec(program)?.[1];
  return name === undefined ? undefined : `/bin/${name}`;
}
