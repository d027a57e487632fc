// Waits for the end of a started command: enforces its timeout, collects its output up to a bound, and throws the error
// for a working directory that does not exist.
import { RpcError } from '../../errors.ts';
import { CANNOT_ENTER } from '../bwrap/bubblewrap-command.ts';
import type { RunOptions, RunResult } from '../commands.ts';
import { GRACE_MS, signalOf } from '../process/sandbox-process.ts';
import type { Started } from '../process/starter.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { collect } from './output.ts';

/** `started` is a command without a terminal. Throws the errors of `Sandbox.run`. */
export async function runToEnd(
  spec: SandboxSpec,
  started: Started,
  { signal, timeoutMs, stdin, outputBytesMax, onOutput }: RunOptions,
): Promise<Omit<RunResult, 'durationMs'>> {
  const { child, access } = started;
  const onAbort = (): void => child.kill(GRACE_MS);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill(GRACE_MS);
  }, timeoutMs);
  if (signal.aborted) child.kill(0);
  signal.addEventListener('abort', onAbort, { once: true });
  child.stdin?.end(stdin);
  const [stdout, stderr, ended] = await Promise.all([
    collect(child.stdout, outputBytesMax, onOutput && ((bytes) => onOutput('stdout', bytes))),
    collect(child.stderr, outputBytesMax, onOutput && ((bytes) => onOutput('stderr', bytes))),
    child.ended,
  ]);
  clearTimeout(timer);
  signal.removeEventListener('abort', onAbort);
  signal.throwIfAborted();
  const { exitCode } = ended;
  const message = stderr.bytes.toString('utf8', 0, 500);
  if (!ended.started) throw new RpcError('internal', { cause: new Error(`bwrap: ${message}`) });
  if (exitCode === CANNOT_ENTER.exitCode && CANNOT_ENTER.message.test(message)) throw cwdMissing(spec);
  return {
    stdout: stdout.bytes,
    stderr: Buffer.concat([stderr.bytes, ...(exitCode === 0 ? [] : started.notices())]),
    exitCode,
    signal: signalOf(exitCode),
    timedOut,
    truncated: stdout.truncated || stderr.truncated,
    // Without write access, the workspace was full before the command started.
    isFull: started.isKilledForDisk() || access !== 'write',
  };
}

function cwdMissing(spec: SandboxSpec): RpcError {
  const issues = [{ path: 'cwd', message: `${spec.cwd ?? ''} is not a directory of the workspace` }];
  return new RpcError('invalid_params', { data: { issues } });
}
