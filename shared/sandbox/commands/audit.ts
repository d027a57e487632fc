// One log line per command: its key, its program, its exit code, its duration. Never its input or output.
import type { Logger } from '../../log.ts';

const ARGS_SHOWN = 16;
const ARG_CHARS_SHOWN = 200;

export interface CommandRecord {
  readonly requestId: string;
  readonly keyId: string;
  readonly method: string;
  readonly argv: readonly string[];
  /** Undefined: the command did not end by itself (cancelled or rejected). */
  readonly exitCode: number | undefined;
  readonly durationMs: number;
  readonly timedOut?: boolean;
}

export function auditCommand(log: Logger, record: CommandRecord): void {
  const { argv } = record;
  const more = argv.length - ARGS_SHOWN;
  const shown = argv
    .slice(0, ARGS_SHOWN)
    .map((arg) => (arg.length > ARG_CHARS_SHOWN ? `${arg.slice(0, ARG_CHARS_SHOWN)}…` : arg));
  log.notice('command', {
    request_id: record.requestId,
    key_id: record.keyId,
    method: record.method,
    argv: more > 0 ? [...shown, `… ${more} more`] : shown,
    exit_code: record.exitCode,
    ms: Math.round(record.durationMs),
    ...(record.timedOut === true && { timed_out: true }),
  });
}
