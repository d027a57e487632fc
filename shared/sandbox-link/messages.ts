// The schemas of requests on a link and of their results. Each side validates received messages by them. Values that
// may be larger than a control message (arguments, environment, input, output) are sent on streams, which the gateway
// side opens and whose ids are in the request.
import { z } from 'zod';
import { RolloutPath } from '../codex-host/codex-host.ts';
import { RpcError } from '../errors.ts';

/** Maximum size of the JSON on a `spec` stream, and of the input of a command. */
export const SPEC_BYTES_MAX = 2 << 20;
export const STDIN_BYTES_MAX = 2 << 20;
/** Maximum bytes of stdout and of stderr that are kept. */
export const OUTPUT_BYTES_MAX = 16 << 20;
/**
 * Maximum characters of a `terminal.input`; longer input is sent in several messages. A character may need six bytes in
 * JSON.
 */
export const INPUT_CHARS_MAX = 8 << 10;

const text = (max: number) => z.string().max(max);
/** Ids that the other side only compares. */
const id = z.string().min(1).max(512);
const path = z
  .string()
  .min(1)
  .max(4_096)
  .regex(/^[^\0]*$/);
const argument = z.string().regex(/^[^\0]*$/);
const streamId = z
  .int()
  .min(0)
  .max(2 ** 32 - 1);
const exitCode = z.int().min(0).max(255);
const size = z.int().min(1).max(10_000);
const count = z.int().min(0);
const environment = z
  .record(z.string().regex(/^[^\0=]{1,128}$/), argument)
  .refine((env) => Object.keys(env).length <= 256, 'must not have more than 256 variables');

const startId = z.string().regex(/^[\w-]{16,64}$/);
const owned = { owner: id };
/** A start is executed only once: the sandbox remembers the id for a while, over all links. */
const start = { ...owned, start_id: startId, spec: streamId };
const terminal = { ...owned, session: id };
const processStreams = { io: streamId, errors: streamId };

export const Availability = z.union([
  z.object({ ok: z.literal(true), warning: text(4_096).exactOptional() }),
  z.object({ ok: z.literal(false), reason: text(4_096), hint: text(4_096) }),
]);

/** `command.run`: `io` carries stdin and stdout, `errors` stderr. */
export const RunParams = z.strictObject({
  ...start,
  ...processStreams,
  has_stdin: z.boolean(),
  timeout_ms: z.int().min(1).max(3_600_000),
  output_bytes_max: z.int().min(0).max(OUTPUT_BYTES_MAX),
});
export const CommandSpec = z.strictObject({
  argv: z.tuple([argument.min(1)], argument).refine(({ length }) => length <= 65_536, 'must not be longer'),
  cwd: path.optional(),
  env: environment.optional(),
});
/** `command.cancel`, a notification: ends the command; its `command.run` is answered then. */
export const CancelParams = z.strictObject({ start_id: startId });
/** `notice`: text that the sandbox adds to stderr. */
export const RunAnswer = z.object({
  exit_code: exitCode,
  signal: text(16).optional(),
  timed_out: z.boolean(),
  truncated: z.boolean(),
  is_full: z.boolean(),
  notice: text(8_192),
  duration_ms: z.number().min(0),
});

/** `terminal.start`, `.input`, `.resize`, `.watch`, `.close`. */
export const TerminalParams = z.strictObject(terminal);
/** `only_running`: a terminal that is not there is not started, and the answer is `not_found`. */
export const TerminalStartParams = z.strictObject({ ...start, session: id, only_running: z.boolean().exactOptional() });
export const TerminalSpec = z.strictObject({
  shell: path.optional(),
  cwd: path.optional(),
  env: environment,
  request_id: text(128),
  cols: size.optional(),
  rows: size.optional(),
});
export const TerminalInputParams = z.strictObject({ ...terminal, data: z.string().min(1).max(INPUT_CHARS_MAX) });
export const TerminalResizeParams = z.strictObject({ ...terminal, cols: size, rows: size });
/** `output`: the stream for the frames of terminal-frames.ts. */
export const TerminalWatchParams = z.strictObject({ ...terminal, after_seq: count, output: streamId });
export const TerminalFacts = z.object({ cols: size, rows: size, seq: count });
export const TerminalStartAnswer = z.object({ cols: size, rows: size, seq: count, resumed: z.boolean() });

/** `terminal.ended`: the sandbox sends it to every link, and the process that started the terminal logs it. */
export const TerminalEnded = z.object({ ...terminal, exit_code: exitCode, duration_ms: z.number().min(0) });

/** `server.start`: `io` carries stdin and stdout, `errors` stderr. The handle is valid on its link only. */
export const ServerStartParams = z.strictObject({ ...start, ...processStreams });
export const ServerSpec = z.union([
  z.strictObject({ registered: z.string().regex(/^[\w.-]{1,64}$/) }),
  z.strictObject({ command: argument.min(1), args: z.array(argument).max(4_096), env: environment }),
]);
export const ServerStartAnswer = z.object({ handle: z.string().regex(/^[\w-]{16,64}$/) });
/** `server.wait` is answered when the process has ended. */
export const ServerParams = z.strictObject({ handle: id });
export const ServerKillParams = z.strictObject({ handle: id, grace_ms: z.int().min(0).max(60_000) });
export const Exit = z.object({ exit_code: exitCode });
export const Nothing = z.null();

const processId = z.string().regex(/^[\w-]{16,64}$/);
/** `codex.open`: `io` and `errors` become the streams of the app-server, if it is new to this link. */
export const CodexOpenParams = z.strictObject({ ...owned, ...processStreams });
export const CodexOpenAnswer = z.object({ session: startId, process_id: processId, is_new: z.boolean() });
/** `codex.release`, a notification. */
export const CodexReleaseParams = z.strictObject({ session: startId });
/** `codex.wait` (answered when the app-server has ended) and `codex.end`. */
export const CodexProcessParams = z.strictObject({ process_id: processId });
/** `codex.read_rollout` and `codex.write_rollout`: the bytes are sent on the stream. */
export const CodexRolloutParams = z.strictObject({ process_id: processId, path: RolloutPath, bytes: streamId });
export const CodexRolloutAnswer = z.object({ found: z.boolean() });

const headers = z
  .record(
    z.string().regex(/^[!#$%&'*+.^`|~\w-]{1,256}$/),
    z.array(z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/)).max(16),
  )
  .refine((all) => Object.keys(all).length <= 128, 'must not have more than 128 headers');
/**
 * `provider.request`, sent by the sandbox: a request of Codex to its provider. One stream carries the body of the
 * request, another one the body of the response. The result contains status and headers of the response.
 */
export const ProviderParams = z.strictObject({
  process_id: processId,
  method: z.string().regex(/^[A-Z]{1,16}$/),
  path: z.string().max(8_192),
  headers,
  body: streamId,
  answer: streamId,
});
export const ProviderHead = z.object({ status: z.int().min(200).max(599), headers });

/** `sandbox.erase`: of a session, or everything of the owner, as far as it was started before that long ago. */
export const EraseParams = z.strictObject({ ...owned, session: id.exactOptional(), ago_ms: count });

/** Validates params. Throws RpcError `invalid_params`. */
export function readParams<T>(schema: z.ZodType<T>, params: unknown): T {
  const { data, error } = schema.safeParse(params);
  if (error === undefined) return data;
  const issues = error.issues.slice(0, 8).map(({ path, message }) => ({ path: path.join('.'), message }));
  throw new RpcError('invalid_params', { data: { issues } });
}
