// Describes how the fake provider behaves for one request, and the directives by which a prompt selects it, so that a
// test in another process can drive it through the gateway.
import type { EndReason, ToolCall } from './model-provider-wire.ts';

export interface Script {
  /** Default: `You said: ` and the prompt without its directives. */
  readonly text?: string;
  /** The text in these pieces; default: the text in one. */
  readonly chunks?: readonly string[];
  readonly reasoning?: string;
  /** Wait before the status line, and before each chunk but the first. */
  readonly delayMs?: number;
  readonly everyMs?: number;
  /** Awaited before chunk `index`, and before the end with `index === chunks.length`. */
  readonly gate?: (index: number) => Promise<void>;
  /** Answer with this status and an error body instead. */
  readonly status?: number;
  /** Of the error body, or of the error event. */
  readonly message?: string;
  /** `error.code` of OpenAI's error body. */
  readonly code?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Never answer: `headers` sends nothing at all, `stream` stops after the first chunk. */
  readonly hang?: 'headers' | 'stream';
  /** While hanging in the stream, send keep-alives this often. */
  readonly pingMs?: number;
  /** After half of the chunks: `socket` destroys the connection, `end` ends the body as if all were well. */
  readonly cut?: 'socket' | 'end';
  /** As `cut`, before the first chunk. */
  readonly cutAtOnce?: boolean;
  /** An error event after the first chunk, or before it. */
  readonly streamError?: 'first' | 'middle';
  /** The status whose error the event names; default: 529, overloaded. */
  readonly errorStatus?: number;
  readonly end?: EndReason;
  /** Of the input tokens, and beside the tokens of the text. */
  readonly cachedTokens?: number;
  readonly reasoningTokens?: number;
  /** Call this tool instead of ending with an answer. */
  readonly toolCall?: ToolCall;
  /** Answer with exactly this body instead, in pieces of `pieceBytes`; status 200 by default. */
  readonly body?: string;
  readonly pieceBytes?: number;
  /** Keep the body open after the end marker. */
  readonly keepOpen?: boolean;
}

/** What directives may refer to. */
export interface ScriptContext {
  readonly prompt: string;
  /** Messages in the request. */
  readonly messages: number;
  /** What tools answered to this prompt so far. */
  readonly toolResults: readonly string[];
  /** How many earlier requests had exactly this prompt. */
  readonly repeats: number;
}

const WORDS = /\[\[([a-z]+)((?:\s[^\]]*)?)\]\]/g;

/**
 * - `[[hang]]`, `[[hang headers]]`, `[[hang ping 20]]`; `[[cut]]`, `[[cut first]]`; `[[early]]`, `[[early first]]`;
 *   `[[open]]`
 * - `[[status 429 retry-after 1 times 2]]`: times n fails only the first n calls with this exact prompt
 * - `[[delay 50]]`, `[[chunks 100 every 20]]`, `[[size 5000000]]`, `[[say text]]`, `[[think text]]`, `[[count]]`
 *   (messages seen)
 * - `[[tool name {"json": 1}]]`, `[[tool name {} times 3]]`: asks for the tool until it was answered (so often), then
 *   repeats its last answer
 * - `[[error]]`, `[[error first]]` (an error event), `[[length]]`, `[[refuse]]` (end reasons)
 */
export function toScript(context: ScriptContext): Script {
  const { prompt } = context;
  let script: Script = { text: `You said: ${prompt.replace(WORDS, '').trim()}` };
  for (const [, word = '', rest = ''] of prompt.matchAll(WORDS)) {
    script = { ...script, ...toChange(word, rest.trim(), script, context) };
  }
  return script;
}

function toChange(word: string, rest: string, script: Script, context: ScriptContext): Script {
  const { messages, repeats, toolResults } = context;
  const text = script.text ?? '';
  switch (word) {
    case 'hang': {
      const pingMs = named(rest, 'ping');
      return { hang: rest === 'headers' ? 'headers' : 'stream', ...(pingMs === undefined ? {} : { pingMs }) };
    }
    case 'cut':
      return { cut: 'socket', cutAtOnce: rest === 'first' };
    case 'early':
      return { cut: 'end', cutAtOnce: rest === 'first' };
    case 'open':
      return { keepOpen: true };
    case 'status': {
      if (repeats >= (named(rest, 'times') ?? Number.POSITIVE_INFINITY)) return {};
      const retryAfter = named(rest, 'retry-after');
      return {
        status: Number.parseInt(rest, 10),
        ...(retryAfter === undefined ? {} : { headers: { 'retry-after': String(retryAfter) } }),
      };
    }
    case 'delay':
      return { delayMs: Number(rest) };
    case 'chunks': {
      const count = Number.parseInt(rest, 10);
      const chunks = Array.from({ length: count }, (_, index) => `${index} `);
      return { chunks, everyMs: named(rest, 'every') ?? 0 };
    }
    case 'size':
      return { chunks: Array.from({ length: Math.ceil(Number(rest) / 65_536) }, () => 'x'.repeat(65_536)) };
    case 'say':
      return { text: rest };
    case 'think':
      return { reasoning: rest };
    case 'count':
      return { text: `${text} (${messages} messages)` };
    case 'tool': {
      if (toolResults.length >= (named(rest, 'times') ?? 1)) return { text: `The tool said: ${toolResults.at(-1)}` };
      const [, name = '', json = '{}'] = /^(\S+)\s*({.*})?/.exec(rest) ?? [];
      return { text: '', toolCall: { name, arguments: json } };
    }
    case 'error':
      return { streamError: rest === 'first' ? 'first' : 'middle' };
    case 'length':
      return { end: 'length' };
    case 'refuse':
      return { end: 'refusal' };
    default:
      return {};
  }
}

/** `every 20` in `100 every 20` -> 20. */
function named(rest: string, name: string): number | undefined {
  const parts = rest.split(/\s+/);
  const at = parts.indexOf(name);
  return at === -1 ? undefined : Number(parts[at + 1]);
}
