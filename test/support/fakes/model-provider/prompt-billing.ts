// Counts the input tokens of requests of the Anthropic wire as Anthropic bills them: a beginning that an earlier
// request has marked costs a tenth, what is written to the cache a quarter more, everything else its price.
import { hash } from 'node:crypto';

const READ_PRICE = 0.1;
const WRITE_PRICE = 1.25;
/** Shorter beginnings are not cached. */
const TOKENS_MIN = 1_024;
/** Blocks before a mark at which an earlier beginning is looked for. */
const LOOKBACK = 20;

export interface Billed {
  /** In tokens at the usual price. */
  readonly billed: number;
  /** The same without a cache. */
  readonly whole: number;
}

export function createPromptBilling(): (body: unknown) => Billed {
  const cached = new Set<string>();
  return (body) => {
    const blocks = toBlocks(body);
    let read = 0;
    let written = 0;
    for (const [index, { isMarked, key, tokens }] of blocks.entries()) {
      if (!isMarked || tokens < TOKENS_MIN) continue;
      const near = blocks.slice(Math.max(0, index + 1 - LOOKBACK), index + 1);
      for (const block of near) if (cached.has(block.key)) read = Math.max(read, block.tokens);
      written = tokens;
      cached.add(key);
    }
    const whole = blocks.at(-1)?.tokens ?? 0;
    const writes = Math.max(0, written - read);
    return { whole, billed: read * READ_PRICE + writes * WRITE_PRICE + (whole - read - writes) };
  };
}

interface Block {
  readonly isMarked: boolean;
  /** Of the request up to the end of the block. */
  readonly key: string;
  readonly tokens: number;
}

function toBlocks(body: unknown): readonly Block[] {
  const { tools = [], system = [], messages = [] } = Object(body);
  const contents = [...tools, ...system, ...messages.flatMap(({ role, content }: Message) => toParts(role, content))];
  let before = '';
  return contents.map(({ cache_control, ...content }: Content) => {
    before += JSON.stringify(content);
    return { isMarked: cache_control !== undefined, key: hash('sha256', before), tokens: Math.ceil(before.length / 4) };
  });
}

interface Content {
  readonly type: string;
  readonly cache_control?: unknown;
}

interface Message {
  readonly role: string;
  readonly content: string | readonly Content[];
}

function toParts(role: string, content: Message['content']): readonly Content[] {
  const parts = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
  return parts.map((part) => ({ role, ...part }));
}
