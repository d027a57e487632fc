// Converts the reasoning of a Codex turn to events: its deltas, and at the end of each item the text of all deltas
// since the item before.
import type { EngineEvent } from '../../../turn-events.ts';
import type { Item } from '../protocol/protocol.ts';

/** Separator between two parts of an item. */
const BETWEEN_PARTS = '\n\n';

export interface ReasoningText {
  /** `part`: the part of the item that the text belongs to. An item is a summary or raw text: the first one counts. */
  add(itemId: string, kind: 'summary' | 'content', part: number, text: string): EngineEvent[];
  /** The end of an item; sends what its deltas lack. */
  end(item: Extract<Item, { type: 'reasoning' }>): EngineEvent[];
  /** Characters in all. */
  readonly chars: number;
}

export function createReasoningText(): ReasoningText {
  /** The item that is being sent. */
  let open: { readonly id: string; readonly kind: string; readonly part: number } | undefined;
  let text = '';

  const send = (delta: string): EngineEvent[] => {
    if (delta === '') return [];
    reasoning.chars += delta.length;
    text += delta;
    return [{ AgentReasoningDelta: { delta } }];
  };

  const reasoning: { -readonly [Name in keyof ReasoningText]: ReasoningText[Name] } = {
    chars: 0,
    add(id, kind, part, delta) {
      if (open?.id === id && open.kind !== kind) return [];
      const isNext = text !== '' && (open?.id !== id || open.part !== part);
      open = { id, kind, part };
      return send(isNext ? BETWEEN_PARTS + delta : delta);
    },
    end({ summary, content }) {
      const whole = (summary.length > 0 ? summary : content).join(BETWEEN_PARTS);
      const events = send(whole.startsWith(text) ? whole.slice(text.length) : '');
      const sent = text;
      text = '';
      open = undefined;
      return sent === '' ? [] : [...events, { AgentReasoning: { text: sent } }];
    },
  };
  return reasoning;
}
