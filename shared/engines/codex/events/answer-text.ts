// Collects the answer of a Codex turn from its messages and the deltas of each.
import type { EngineEvent } from '../../../turn-events.ts';

/** Separator between two messages of one turn (a comment, then the answer). */
const BETWEEN_MESSAGES = '\n\n';

export interface AnswerText {
  /** The answer so far, equal to the concatenated deltas. */
  readonly content: string;
  add(itemId: string, text: string): EngineEvent[];
  /** The end of a message. Its deltas may be incomplete or missing; sends the rest of `text`. */
  end(itemId: string, text: string): EngineEvent[];
}

export function createAnswerText(): AnswerText {
  let lastMessage: string | undefined;
  const charsOf = new Map<string, number>();

  const add = (itemId: string, text: string): EngineEvent[] => {
    if (text === '') return [];
    const delta = lastMessage !== undefined && lastMessage !== itemId ? BETWEEN_MESSAGES + text : text;
    lastMessage = itemId;
    charsOf.set(itemId, (charsOf.get(itemId) ?? 0) + text.length);
    answer.content += delta;
    return [{ AgentMessageDelta: { delta } }];
  };

  const answer = {
    content: '',
    add,
    end: (itemId: string, text: string) => add(itemId, text.slice(charsOf.get(itemId) ?? 0)),
  };
  return answer;
}
