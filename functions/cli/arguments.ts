// Parses the command line. The key is not an argument, because every process of the machine can read arguments.
import { parseArgs } from 'node:util';
import { LOCAL_KEY, LOCAL_URL, METHODS } from '../../shared/protocol.ts';
import { toPromptParams } from './prompt-params.ts';
import { readFileInput, readInput } from './read-input.ts';
import { UsageError } from './usage-error.ts';

export const USAGE = `usage: codex-gateway [options] <method> ['<params as JSON>' | @file | -]
       codex-gateway [options] prompt ['text' | @file | -]

  codex-gateway prompt 'Write a haiku' --session demo
  codex-gateway conversation.status '{"session_id": "demo"}'
  codex-gateway owner.export > everything.ndjson
  codex-gateway owner.erase '{"confirm": "<key id>"}'
  codex-gateway rpc.discover

Writes to stdout: the text of an answer as it arrives; all pages of owner.export, as NDJSON; the result of any
other method, as JSON. Calls owner.erase until it is done. Ctrl-C cancels the turn.

options of a prompt
  --session ID     continues or creates this session; default: a new one
  --after SEQ      follows message SEQ of the session; drops later messages
  --model MODEL    provider/model; default: that of the gateway
  --fallback MODEL calls this model if the one before fails; up to 3 times
  --image FILE     sends this image before the text (png, jpeg, gif, webp); may be repeated;
                   stdin is then read only for '-'
  --schema FILE    requires an answer in JSON that matches this JSON Schema

options
  --json           writes every message of the gateway, one JSON-RPC message a line
  --ws             streams over WebSocket instead of Server-Sent Events; needs Node 22
  --timeout MS     ends the call after this time, and cancels its turn
  --url URL        the gateway, instead of GATEWAY_URL
  --help

environment
  GATEWAY_URL      default ${LOCAL_URL}
  GATEWAY_KEY      the API key; for a gateway on this machine the default is ${LOCAL_KEY}
  GATEWAY_WS_URL   the WebSocket, where it is not /ws below GATEWAY_URL

exit codes
  0 ok             1 anything else         2 usage
  3 key or scope   4 rate limited          5 refused: not found, not valid, in conflict
  6 model or other upstream                7 gateway unavailable or not reached
  130 interrupted
`;

export interface Command {
  readonly kind: 'call';
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly json: boolean;
  readonly streaming: 'sse' | 'websocket';
  readonly timeoutMs: number | undefined;
  readonly url: string;
  readonly key: string;
  readonly socketUrl: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws UsageError. `stdin` is read only if an argument is `-` or a prompt has neither text nor images. */
export async function readCommand(
  argv: readonly string[],
  env: Environment,
  stdin: AsyncIterable<Uint8Array>,
): Promise<Command | { readonly kind: 'help' }> {
  const { values, positionals } = parse(argv);
  if (values.help === true) return { kind: 'help' };
  const [name, argument, ...rest] = positionals;
  if (name === undefined) throw new UsageError('the method is missing: see --help');
  if (rest.length > 0) throw new UsageError('too many arguments: quote the text or the JSON');
  const isPrompt = name === 'prompt';
  const { session, after, model, fallback, image, schema } = values;
  if (!isPrompt && [session, after, model, fallback, image, schema].some((value) => value !== undefined)) {
    const names = '--session, --after, --model, --fallback, --image and --schema';
    throw new UsageError(`${names} go with prompt; other methods take them in their params`);
  }
  const url = values.url ?? nonEmpty(env.GATEWAY_URL) ?? LOCAL_URL;
  const common = {
    kind: 'call',
    json: values.json === true,
    streaming: values.ws === true ? 'websocket' : 'sse',
    timeoutMs: values.timeout === undefined ? undefined : toMs(values.timeout),
    url,
    key: nonEmpty(env.GATEWAY_KEY) ?? localKey(url),
    socketUrl: nonEmpty(env.GATEWAY_WS_URL),
  } as const;
  if (!isPrompt) {
    const text = argument === undefined ? '{}' : await readArgument(argument, stdin);
    return { ...common, method: name, params: toParams(text) };
  }
  const isImageOnly = argument === undefined && image !== undefined;
  const prompt = isImageOnly ? undefined : await readArgument(argument ?? '-', stdin);
  const params = await toPromptParams(prompt, { session, after, model, fallback, image, schema });
  return { ...common, method: METHODS.prompt, params };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        session: { type: 'string' },
        after: { type: 'string' },
        model: { type: 'string' },
        fallback: { type: 'string', multiple: true },
        image: { type: 'string', multiple: true },
        schema: { type: 'string' },
        json: { type: 'boolean' },
        ws: { type: 'boolean' },
        timeout: { type: 'string' },
        url: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** Returns the argument itself, the content of the file `@path`, or stdin for `-`. */
async function readArgument(argument: string, stdin: AsyncIterable<Uint8Array>): Promise<string> {
  if (argument === '-') return (await readInput(stdin, 'the input')).toString('utf8').trimEnd();
  if (!argument.startsWith('@')) return argument;
  return (await readFileInput(argument.slice(1))).toString('utf8');
}

function toParams(text: string): Record<string, unknown> {
  let params: unknown;
  try {
    params = JSON.parse(text);
  } catch {
    throw new UsageError('the params are not valid JSON');
  }
  if (typeof params !== 'object' || params === null || Array.isArray(params)) {
    throw new UsageError('the params must be a JSON object');
  }
  return { ...params };
}

function toMs(text: string): number {
  const ms = Number(text);
  if (!Number.isInteger(ms) || ms <= 0) throw new UsageError('--timeout takes milliseconds');
  return ms;
}

/** The development key, which is public and is sent to this machine only. Throws UsageError for another URL. */
export function localKey(url: string): string {
  const isLocal = /^http:\/\/(127\.0\.0\.1|localhost|\[::1\])([:/]|$)/.test(url);
  if (!isLocal) throw new UsageError('set GATEWAY_KEY to the API key of this gateway');
  return LOCAL_KEY;
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}
