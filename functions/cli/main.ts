#!/usr/bin/env node
// `codex-gateway`: the gateway from a shell. Exit codes by class of error; Ctrl-C cancels the turn that runs.
import { GatewayError } from '../../shared/client/gateway-error.ts';
import { trimEnvironment } from '../../shared/config/environment.ts';
import { readCommand, USAGE } from './arguments.ts';
import { EXIT, exitCodeOf } from './exit-codes.ts';
import { printable } from './output.ts';
import { run } from './run.ts';
import { UsageError } from './usage-error.ts';

const { stdout, stderr } = process;
const interrupted = new AbortController();

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // A second signal ends the process immediately.
    if (interrupted.signal.aborted) process.exit(EXIT.interrupted);
    interrupted.abort(new DOMException('interrupted', 'AbortError'));
  });
}
// The reader of the output has closed the pipe (`| head`).
stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.other));

try {
  const command = await readCommand(process.argv.slice(2), trimEnvironment(process.env), process.stdin);
  if (command.kind === 'help') stdout.write(USAGE);
  else await run(command, { stdout, stderr }, interrupted.signal);
} catch (error) {
  process.exitCode = interrupted.signal.aborted ? EXIT.interrupted : exitCodeOf(error);
  stderr.write(`${printable(describe(error))}\n`);
}

function describe(error: unknown): string {
  if (interrupted.signal.aborted) return 'interrupted';
  if (error instanceof UsageError) return `codex-gateway: ${error.message}`;
  if (!(error instanceof GatewayError)) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  const { reason, message, requestId, retryAfterMs, data } = error;
  const issues = Array.isArray(data.issues) ? data.issues.map((issue: unknown) => `\n  ${JSON.stringify(issue)}`) : [];
  return [
    `codex-gateway: ${reason}: ${message}`,
    retryAfterMs === undefined ? '' : `; again in ${Math.ceil(retryAfterMs / 1_000)} s`,
    requestId === undefined ? '' : ` (request ${requestId})`,
    ...issues,
  ].join('');
}
