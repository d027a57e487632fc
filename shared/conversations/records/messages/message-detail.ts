// The detail of a stored message: JSON text of its parts. A text part contains only its length, because the message has
// the text. Older versions ignore the detail and read the text.
import { z } from 'zod';
import { hasMoreThanText, type JsonValue, type MessagePart } from '../../../messages/message-parts.ts';

/** Most characters of a detail. A longer one is stored with shorter results of tools. */
const CHARS_MAX = 512 << 10;
/** Characters of a result in a detail that would be too long, from the first step on. */
const RESULT_CHARS_MAX = [16 << 10, 4 << 10, 1 << 10] as const;

const Json: z.ZodType<JsonValue> = z.json();
const Metadata = z.record(z.string(), z.record(z.string(), Json));
const StoredPart = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), chars: z.int().min(0), metadata: Metadata.exactOptional() }),
  z.object({ type: z.literal('image'), media_type: z.string(), data: z.string() }),
  z.object({ type: z.literal('reasoning'), text: z.string(), metadata: Metadata.exactOptional() }),
  z.object({
    type: z.literal('tool_call'),
    call_id: z.string(),
    name: z.string(),
    arguments: z.string(),
    metadata: Metadata.exactOptional(),
  }),
  z.object({
    type: z.literal('tool_result'),
    call_id: z.string(),
    name: z.string(),
    content: z.string(),
    is_error: z.boolean(),
  }),
]);
type StoredPart = z.output<typeof StoredPart>;
const StoredParts = z.array(z.unknown());

/**
 * The detail of a message; undefined if it is text only. `parts` of an answer: what the engine has recorded, whose
 * texts begin `text`; the rest of the text follows them, as in an answer that was cut.
 */
export function encodeDetail(text: string, parts: readonly MessagePart[]): string | undefined {
  if (!hasMoreThanText(parts)) return undefined;
  const stored = toStored(text, parts);
  // A prompt is stored whole: its size has a bound.
  if (parts.some(({ type }) => type === 'image')) return JSON.stringify(stored);
  for (const resultCharsMax of [undefined, ...RESULT_CHARS_MAX]) {
    const detail = JSON.stringify(resultCharsMax === undefined ? stored : stored.map(cutResult(resultCharsMax)));
    if (detail.length <= CHARS_MAX) return detail;
  }
  return undefined;
}

/** The parts of a message. Kinds of parts that a newer version has added are left out. */
export function decodeDetail(text: string, detail: string): readonly MessagePart[] {
  let from = 0;
  return StoredParts.parse(JSON.parse(detail)).flatMap((item): MessagePart[] => {
    const { data: part } = StoredPart.safeParse(item);
    if (part?.type !== 'text') return part === undefined ? [] : [part];
    const { chars, ...others } = part;
    const start = from;
    from += chars;
    return [{ ...others, text: text.slice(start, from) }];
  });
}

function toStored(text: string, parts: readonly MessagePart[]): StoredPart[] {
  let from = 0;
  const stored = parts.flatMap((part): StoredPart[] => {
    if (part.type !== 'text') return [toJson(part)];
    if (part.text === '') return [];
    if (!text.startsWith(part.text, from)) return [];
    from += part.text.length;
    const { text: _text, ...others } = part;
    return [toJson({ ...others, chars: part.text.length })];
  });
  return from < text.length ? [...stored, { type: 'text', chars: text.length - from }] : stored;
}

/** Without members that are undefined, which metadata may have. */
function toJson(part: object): StoredPart {
  return StoredPart.parse(JSON.parse(JSON.stringify(part)));
}

function cutResult(charsMax: number) {
  return (part: StoredPart): StoredPart => {
    if (part.type !== 'tool_result' || part.content.length <= charsMax) return part;
    const left = part.content.length - charsMax;
    return { ...part, content: `${part.content.slice(0, charsMax).toWellFormed()}\n[${left} more characters]` };
  };
}
