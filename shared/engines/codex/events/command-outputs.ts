// Converts the output of a turn's commands to events, within the bounds of one event, of one command and of the turn.
import { splitText, truncateText } from '../../../messages/text.ts';
import type { EngineEvent } from '../../../turn-events.ts';

/** Maximum characters of output in one event, of one command, and of a whole turn. */
const CHUNK_CHARS_MAX = 8 << 10;
const COMMAND_CHARS_MAX = 64 << 10;
const TURN_CHARS_MAX = 512 << 10;

export interface CommandOutputs {
  add(call_id: string, text: string): EngineEvent[];
  /** The end of a command; sends the whole output, if none of it was sent before. */
  end(call_id: string, output: string): EngineEvent[];
}

export function createCommandOutputs(): CommandOutputs {
  const charsOf = new Map<string, number>();
  let turnCharsLeft = TURN_CHARS_MAX;

  const add = (call_id: string, text: string): EngineEvent[] => {
    const soFar = charsOf.get(call_id) ?? 0;
    const kept = truncateText(text, Math.max(0, Math.min(COMMAND_CHARS_MAX - soFar, turnCharsLeft)));
    charsOf.set(call_id, soFar + text.length);
    turnCharsLeft -= kept.length;
    const chunks = [...splitText(kept.toWellFormed(), CHUNK_CHARS_MAX)];
    return chunks.map((chunk) => ({ ExecCommandOutputDelta: { call_id, stream: 'stdout', chunk } }));
  };

  return {
    add,
    end(call_id, output) {
      const events = charsOf.has(call_id) ? [] : add(call_id, output);
      charsOf.delete(call_id);
      return events;
    },
  };
}
