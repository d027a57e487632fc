// Runs one command to its end: its time, its output as far as it is kept, and the error of a directory that is missing.
import { RpcError } from '../errors.ts';
import { CANNOT_ENTER } from './bubblewrap-command.ts';
import type { RunOptions, RunResult } from './commands.ts';
import { keep } from './output.ts';
import { GRACE_MS, signalOf } from './process/sandbox-process.ts';
import type { Started } from './process/starter.ts';
import type { SandboxSpec } from './sandbox.ts';

/** `started` is a command without terminal. Throws as `Sandbox.run`. */
export async function runToEnd(
  spec: SandboxSpec,
  started: Started,
  { signal, timeoutMs, stdin, outputBytesMax, onOutput }: RunOptions,
): Promise<Omit<RunResult, 'durationMs'>> {
  const { child, access } = started;
  const aborted = (): void => child.kill(GRACE_MS);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill(GRACE_MS);
  }, timeoutMs);
  if (signal.aborted) child.kill(0);
  signal.addEventListener('abort', aborted, { once: true });
  child.stdin?.end(stdin);
  const [stdout, stderr, ended] = await Promise.all([
    keep(child.stdout, outputBytesMax, onOutput && ((bytes) => onOutput('stdout', bytes))),
    keep(child.stderr, outputBytesMax, onOutput && ((bytes) => onOutput('stderr', bytes))),
    child.ended,
  ]);
  clearTimeout(timer);
  signal.removeEventListener('abort', aborted);
  signal.throwIfAborted();
  const { exitCode } = ended;
  const message = stderr.bytes.toString('utf8', 0, 500);
  if (!ended.started) throw new RpcError('internal', { cause: new Error(`bwrap: ${message}`) });
  if (exitCode === CANNOT_ENTER.exitCode && CANNOT_ENTER.message.test(message)) throw noDirectory(spec);
  return {
    stdout: stdout.bytes,
    stderr: Buffer.concat([stderr.bytes, ...(exitCode === 0 ? [] : started.notices())]),
    exitCode,
    signal: signalOf(exitCode),
    timedOut,
    truncated: stdout.truncated || stderr.truncated,
    isFull: started.isOverDisk() || access !== 'write',
  };
}

function noDirectory(spec: SandboxSpec): RpcError {
  const issues = [{ path: 'cwd', message: `${spec.cwd ?? ''} is not a directory of the workspace` }];
  return new RpcError('invalid_params', { data: { issues } });
}
