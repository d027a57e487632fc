// `exec`: runs one command in the caller's sandbox: a program and its arguments, not a shell line.
import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { toCancelled } from '../errors.ts';
import { placeAnswer } from '../rpc/answers.ts';
import { auditCommand } from '../sandbox/commands/audit.ts';
import { createEventSink } from '../sandbox/commands/command-events.ts';
import { checkEnvironment } from '../sandbox/commands/environment.ts';
import { fitOutput } from '../sandbox/commands/output-text.ts';
import { HOME, type RunResult } from '../sandbox/commands.ts';
import { defineMethod } from './define-method.ts';
import { Directory, SessionId } from './schemas/schemas.ts';

const OUTPUT_BYTES_MAX = 1 << 20;
/** Bytes of a response in addition to the output. */
const ANSWER_REST_BYTES = 4 << 10;
const LARGE_OUTPUT_BYTES = 64 << 10;
const TIMEOUT_MS = 30_000;
const TIMEOUT_MS_MAX = 300_000;
/** On a WebSocket, events are sent only if the command runs longer than this. */
const HOLD_MS = 1_000;
/** Limit of Linux (MAX_ARG_STRLEN). */
const ARG_BYTES_MAX = (128 << 10) - 1;

const Arg = z
  .string()
  .refine((text) => !text.includes('\0'), 'must not contain NUL')
  .refine((text) => Buffer.byteLength(text) <= ARG_BYTES_MAX, `must not be longer than ${ARG_BYTES_MAX} bytes`);

export const exec = defineMethod({
  name: 'exec',
  summary: 'Runs a command in the caller’s sandbox: no network, own home and /tmp that persist between calls',
  scope: 'workspace',
  cost: 'work',
  runs: 'companion',
  needs: 'sandbox',
  params: z.strictObject({
    command: Arg.refine((text) => text !== '' && !text.includes('='), 'must be a program, without "="').describe(
      'The program, run without a shell',
    ),
    args: z.array(Arg).max(1000).default([]),
    env: z
      .record(z.string(), z.string())
      .superRefine((env, context) => {
        for (const { path, message } of checkEnvironment(env)) {
          context.addIssue({ code: 'custom', path: path.split('.').slice(1), message });
        }
      })
      .default({})
      .describe('Added to the sandbox’s environment; variables that change what programs load or run are refused'),
    cwd: Directory.default(HOME),
    stdin: z.string().optional(),
    timeout_ms: z.int().min(1).max(TIMEOUT_MS_MAX).default(TIMEOUT_MS),
    session_id: SessionId.optional().describe('Repeated in the events'),
    stream: z
      .boolean()
      .optional()
      .describe('True: events from the start; default on a WebSocket: only of commands that take longer than a second'),
  }),
  result: z.object({
    stdout: z.string(),
    stderr: z.string(),
    exit_code: z.int().describe('Exit code as of a shell: 127 not found, 128 + n killed by signal n'),
    signal: z.string().optional(),
    timed_out: z.boolean(),
    truncated: z
      .boolean()
      .describe(
        'More than 1 MiB was written to stdout or stderr, or more than the response may contain (1 MiB on ' +
          'a WebSocket); the rest was removed',
      ),
    duration_ms: z.int(),
    call_id: z.string(),
    stdout_base64: z.string().optional().describe('The bytes, if they are not UTF-8'),
    stderr_base64: z.string().optional(),
  }),
  errors: ['sandbox_unavailable', 'unavailable', 'cancelled'],
  example: {
    params: { command: 'echo', args: ['Hello from Codex Gateway'], env: { ENV_VAR: 'value' }, cwd: '/tmp' },
    result: {
      stdout: 'Hello from Codex Gateway\n',
      stderr: '',
      exit_code: 0,
      timed_out: false,
      truncated: false,
      duration_ms: 21,
      call_id: 'call_1',
    },
  },
  async handle(params, context) {
    const { services, caller, signal } = context;
    const callId = services.ids.next('call');
    const argv = [params.command, ...params.args] as const;
    const isHeld = context.transport === 'ws' && params.stream !== true;
    const isShown = context.transport !== 'http' && params.stream !== false;
    const events = createEventSink(isShown ? context.notify : undefined, {
      callId,
      sessionId: params.session_id,
      delayMs: isHeld ? HOLD_MS : 0,
    });
    const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
    const startedMs = performance.now();
    let result: RunResult | undefined;
    try {
      void events.send({ ExecCommandBegin: { call_id: callId, command: argv.slice(0, 100), cwd: params.cwd } });
      result = await services.commands.run(
        { keyId: caller.keyId, argv: [...argv], cwd: params.cwd, env: params.env },
        {
          signal,
          timeoutMs: params.timeout_ms,
          stdin: params.stdin,
          outputBytesMax: OUTPUT_BYTES_MAX,
          onOutput(stream, bytes) {
            const chunk = decoders[stream].decode(bytes, { stream: true });
            if (chunk !== '') return events.send({ ExecCommandOutputDelta: { call_id: callId, stream, chunk } });
          },
        },
      );
      const { exitCode, timedOut, durationMs } = result;
      await events.send({
        ExecCommandEnd: {
          call_id: callId,
          exit_code: exitCode,
          timed_out: timedOut,
          duration_ms: Math.round(durationMs),
        },
      });
      // Responses with a large output are built one per iteration of the event loop.
      if (result.stdout.length + result.stderr.length > LARGE_OUTPUT_BYTES) await placeAnswer(context.memory, signal);
      return { ...toWire(result, context.answerBytesMax - ANSWER_REST_BYTES), call_id: callId };
    } catch (error) {
      throw toCancelled(error, signal);
    } finally {
      events.end();
      auditCommand(services.log, {
        requestId: context.requestId,
        keyId: caller.keyId,
        method: 'exec',
        argv,
        exitCode: result?.exitCode,
        durationMs: performance.now() - startedMs,
        timedOut: result?.timedOut ?? false,
      });
    }
  },
});

function toWire(result: RunResult, jsonBytesMax: number) {
  const { stdout, stderr } = fitOutput(result.stdout, result.stderr, jsonBytesMax);
  const isWhole = stdout.length === result.stdout.length && stderr.length === result.stderr.length;
  return {
    stdout: stdout.toString('utf8'),
    stderr: stderr.toString('utf8'),
    exit_code: result.exitCode,
    ...(result.signal !== undefined && { signal: result.signal }),
    timed_out: result.timedOut,
    truncated: result.truncated || !isWhole,
    duration_ms: Math.round(result.durationMs),
    ...(!isUtf8(stdout) && { stdout_base64: stdout.toString('base64') }),
    ...(!isUtf8(stderr) && { stderr_base64: stderr.toString('base64') }),
  };
}
