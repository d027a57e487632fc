// The notifications of a running turn (`conversation.event`). An event has exactly one member; names that a newer
// gateway adds are ignored.
import { isObject } from '../json/json-object.ts';
import { NOTIFICATIONS } from '../protocol.ts';
import type { EventBody } from '../turn-events.ts';

/** Params of a `conversation.event` notification. */
export interface TurnEvent {
  readonly session_id: string;
  readonly conversation_id: string;
  readonly turn_id: string;
  /** Grows within a turn, from 1. */
  readonly seq: number;
  readonly event: EventBody;
}

/** A JSON-RPC notification of a stream. */
export interface Notification {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** Undefined for any other notification. */
export function toTurnEvent({ method, params }: Notification): TurnEvent | undefined {
  const { session_id, conversation_id, turn_id, seq, event } = params;
  if (
    method !== NOTIFICATIONS.turnEvent ||
    typeof session_id !== 'string' ||
    typeof conversation_id !== 'string' ||
    typeof turn_id !== 'string' ||
    typeof seq !== 'number' ||
    !isObject(event)
  ) {
    return undefined;
  }
  return { session_id, conversation_id, turn_id, seq, event };
}
