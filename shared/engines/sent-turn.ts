// The turn in the form in which it is sent to a model: after each context overflow it has fewer messages.
import type { EngineEvent } from '../turn-events.ts';
import type { TurnInput } from './engine.ts';
import type { ContextOverflow } from './failures/context-overflow.ts';
import { toEvent, trimTurn } from './failures/overflow.ts';

/** After this many overflows, only the prompt is sent. */
const TRIMS_MAX = 12;

export interface SentTurn {
  readonly current: TurnInput;
  /** Removes messages and returns the event about it. Throws `overflow` if only the prompt is left. */
  trim(overflow: ContextOverflow): EngineEvent;
}

export function createSentTurn(turn: TurnInput): SentTurn {
  let overflows = 0;
  const sent = {
    current: turn,
    trim(overflow: ContextOverflow): EngineEvent {
      const trimmed = trimTurn(sent.current, overflow.limitTokens, ++overflows >= TRIMS_MAX);
      if (trimmed === undefined) throw overflow;
      sent.current = trimmed.turn;
      return toEvent(trimmed);
    },
  };
  return sent;
}
