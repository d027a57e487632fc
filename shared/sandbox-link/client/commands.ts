// The Commands port over a link: the command runs in the sandbox service, and its output arrives on streams.
import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import { bounded } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import type { Command, Commands, RunOptions, RunResult } from '../../sandbox/commands.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import type { Link } from '../link/link.ts';
import { Availability, RunAnswer } from '../messages.ts';
import { readAll } from '../streams.ts';
import { call, openLink } from './calls.ts';
import { broken, lost } from './failures.ts';

const AVAILABLE_MS = 5_000;
/** Added to the timeout of a command: time to wait for a slot, to end its processes and to transfer its output. */
const EXTRA_MS = 40_000;
/** How long to wait for the answer of a cancelled command, which the sandbox ends within 2 s. */
const CANCEL_MS = 5_000;
const WHAT = 'The command';

export function createRemoteCommands(keeper: LinkKeeper): Commands {
  return {
    async available() {
      try {
        return await bounded({ timeoutMs: AVAILABLE_MS }, async ({ signal }) => {
          const link = await openLink(keeper, signal);
          return call(link, 'sandbox.available', {}, { answer: Availability, what: WHAT, signal });
        });
      } catch {
        return {
          ok: false,
          reason: 'the sandbox service cannot be reached',
          hint: 'the operator has to start it at the address in SANDBOX_URL',
        };
      }
    },

    async run(command, options) {
      options.signal.throwIfAborted();
      const link = await openLink(keeper, options.signal);
      const timeoutMs = options.timeoutMs + EXTRA_MS;
      const toTimeout = (): RpcError => lost(WHAT, new Error(`no answer within ${timeoutMs} ms`));
      try {
        return await bounded({ timeoutMs, toTimeout }, ({ signal }) => runOver(link, command, options, signal));
      } catch (error) {
        options.signal.throwIfAborted();
        throw error;
      }
    },
  };
}

/**
 * `limit` ends the wait for the answer. The caller's signal first cancels the command, and ends the wait after
 * CANCEL_MS.
 */
async function runOver(
  link: Link,
  { keyId, argv, cwd, env }: Command,
  { signal: callSignal, timeoutMs, stdin, outputBytesMax, onOutput }: RunOptions,
  limit: AbortSignal,
): Promise<RunResult> {
  const startId = randomUUID();
  const streams = { spec: link.openStream(), io: link.openStream(), errors: link.openStream() };
  const reset = (): void => {
    for (const stream of Object.values(streams)) stream.destroy();
  };
  const stop = new AbortController();
  const signal = AbortSignal.any([limit, stop.signal]);
  let waiting: NodeJS.Timeout | undefined;
  const cancel = (): void => {
    link.notify('command.cancel', { start_id: startId });
    reset();
    waiting = setTimeout(() => stop.abort(callSignal.reason), CANCEL_MS);
  };
  const read = (stream: 'stdout' | 'stderr'): Promise<Buffer> =>
    readAll(stream === 'stdout' ? streams.io : streams.errors, outputBytesMax, signal, (bytes) =>
      onOutput?.(stream, bytes),
    );
  callSignal.addEventListener('abort', cancel, { once: true });
  try {
    streams.spec.end(JSON.stringify({ argv, cwd, env }));
    streams.spec.resume();
    streams.io.end(stdin);
    streams.errors.end();
    const outputs = Promise.all([read('stdout'), read('stderr')]);
    outputs.catch((error: unknown) => {
      // If a stream was reset, the answer contains the reason.
      if (error instanceof RpcError && error.reason === 'payload_too_large') stop.abort(broken(WHAT, error));
    });
    const params = {
      ...{ owner: keyId, start_id: startId, has_stdin: stdin !== undefined },
      ...{ spec: streams.spec.id, io: streams.io.id, errors: streams.errors.id },
      ...{ timeout_ms: timeoutMs, output_bytes_max: outputBytesMax },
    };
    const options = { answer: RunAnswer, what: WHAT, signal, timeoutMs: Number.POSITIVE_INFINITY };
    const answer = await call(link, 'command.run', params, options);
    const [stdout, stderr] = await outputs.catch((error: unknown) => {
      signal.throwIfAborted();
      throw link.over.aborted ? lost(WHAT, error) : broken(WHAT, error);
    });
    return toResult(answer, stdout, stderr);
  } finally {
    clearTimeout(waiting);
    callSignal.removeEventListener('abort', cancel);
    reset();
  }
}

function toResult(answer: z.output<typeof RunAnswer>, stdout: Buffer, stderr: Buffer): RunResult {
  return {
    stdout,
    stderr: answer.notice === '' ? stderr : Buffer.concat([stderr, Buffer.from(answer.notice)]),
    exitCode: answer.exit_code,
    signal: answer.signal,
    timedOut: answer.timed_out,
    truncated: answer.truncated,
    isFull: answer.is_full,
    durationMs: answer.duration_ms,
  };
}
