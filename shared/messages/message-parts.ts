// The parts of a message: what a model wrote and did in a turn, in the order in which it happened. Engines send them to
// providers, conversations store them, methods list them. Changed names break stored documents.

/**
 * What a provider requires back with a part that it has produced, such as the signature of its reasoning; by provider.
 * Only that provider can read it.
 */
export type PartMetadata = Readonly<Record<string, Readonly<Record<string, JsonValue | undefined>>>>;

export type JsonValue =
  | null
  | string
  | number
  | boolean
  | { readonly [name: string]: JsonValue | undefined }
  | readonly JsonValue[];

export interface TextPart {
  readonly type: 'text';
  readonly text: string;
  readonly metadata?: PartMetadata;
}

/** An image of a prompt. */
export interface ImagePart {
  readonly type: 'image';
  readonly media_type: string;
  /** Base64. */
  readonly data: string;
}

/** The text may be empty: then the metadata contains reasoning that only the provider can read. */
export interface ReasoningPart {
  readonly type: 'reasoning';
  readonly text: string;
  readonly metadata?: PartMetadata;
}

export interface ToolCallPart {
  readonly type: 'tool_call';
  readonly call_id: string;
  /** The name that the model was given. */
  readonly name: string;
  /** JSON text, as the model wrote it. */
  readonly arguments: string;
  readonly metadata?: PartMetadata;
}

export interface ToolResultPart {
  readonly type: 'tool_result';
  readonly call_id: string;
  readonly name: string;
  readonly content: string;
  readonly is_error: boolean;
}

export type MessagePart = TextPart | ImagePart | ReasoningPart | ToolCallPart | ToolResultPart;

const NO_IMAGE = '[An image that this model cannot take]';

/** The result of a call whose tool has not answered. */
const NO_RESULT = 'There is no result: the turn ended before the tool answered.';

/** The parts of an answer with text only are not stored: the text is enough. */
export function hasMoreThanText(parts: readonly MessagePart[]): boolean {
  return parts.some(({ type }) => type !== 'text');
}

/** The same with a text in the place of each image. */
export function replaceImages(parts: readonly MessagePart[]): readonly MessagePart[] {
  return parts.map((part) => (part.type === 'image' ? { type: 'text', text: NO_IMAGE } : part));
}

/** What a model produces. */
export type OutputPart = TextPart | ReasoningPart | ToolCallPart;

/** One call of the model: what it answered, and the results of the tools that it called, in the order of the calls. */
export interface Round {
  readonly output: readonly OutputPart[];
  readonly results: readonly ToolResultPart[];
}

/**
 * Splits a message into the calls of the model. Each call of a tool has its result in the same round, also if the turn
 * ended before the tool answered, because providers refuse a call without a result.
 */
export function toRounds(parts: readonly MessagePart[]): readonly Round[] {
  const rounds: Round[] = [];
  const results = parts.filter((part) => part.type === 'tool_result');
  let output: OutputPart[] = [];
  const end = (): void => {
    if (output.length > 0) rounds.push({ output, results: output.flatMap((part) => resultsOf(part, results)) });
    output = [];
  };
  let isAnswered = false;
  for (const part of parts) {
    if (part.type === 'image') continue;
    if (part.type !== 'tool_result') {
      if (isAnswered) end();
      output.push(part);
    }
    isAnswered = part.type === 'tool_result';
  }
  end();
  return rounds;
}

/** Removes the result of the call from `results`, because some servers use an id again in a later round. */
function resultsOf(part: MessagePart, results: ToolResultPart[]): ToolResultPart[] {
  if (part.type !== 'tool_call') return [];
  const { call_id, name } = part;
  const at = results.findIndex((result) => result.call_id === call_id);
  const [found] = at === -1 ? [] : results.splice(at, 1);
  return [found ?? { type: 'tool_result', call_id, name, content: NO_RESULT, is_error: true }];
}

/** The same part without what only its provider can read. */
export function withoutMetadata<Part extends MessagePart>(part: Part): Part {
  if (!('metadata' in part)) return part;
  const { metadata: _metadata, ...others } = part;
  return others as Part;
}
