// The events of one turn: a numbered log that any number of readers follow at their own speed, and its stored form.
import { z } from 'zod';
import type { TurnEvent } from '../../turn-events.ts';
import { isEvent } from './turn-documents.ts';

export interface NumberedEvent {
  /** From 1, without gaps while the turn's owner is alive. */
  readonly seq: number;
  readonly event: TurnEvent;
}

/** The log of a turn in memory. Bounded, because engines bound their answers. */
export interface EventLog {
  readonly events: readonly NumberedEvent[];
  append(event: TurnEvent): void;
  /** Appends an event that another instance has numbered. */
  adopt(numbered: NumberedEvent): void;
  /** Ends all reads after the last event. */
  close(): void;
  /** Events with seq > `afterSeq`, then live ones, until the log closes or `signal` aborts (then it just ends). */
  read(afterSeq: number, signal?: AbortSignal): AsyncGenerator<NumberedEvent, void, void>;
}

export function createEventLog(): EventLog {
  const events: NumberedEvent[] = [];
  let closed = false;
  let changed = Promise.withResolvers<void>();
  const wake = (): void => {
    changed.resolve();
    changed = Promise.withResolvers<void>();
  };
  return {
    events,
    append(event) {
      events.push({ seq: (events.at(-1)?.seq ?? 0) + 1, event });
      wake();
    },
    adopt(numbered) {
      events.push(numbered);
      wake();
    },
    close() {
      closed = true;
      wake();
    },
    async *read(afterSeq, signal) {
      const aborted = Promise.withResolvers<void>();
      const onAbort = (): void => aborted.resolve();
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        let index = events.findIndex((numbered) => numbered.seq > afterSeq);
        if (index === -1) index = events.length;
        while (signal?.aborted !== true) {
          const next = events[index];
          if (next !== undefined) {
            index++;
            if (next.seq > afterSeq) yield next;
          } else if (closed) return;
          else await Promise.race([changed.promise, aborted.promise]);
        }
      } finally {
        signal?.removeEventListener('abort', onAbort);
      }
    },
  };
}

/**
 * Stored form, JSON text: a bare string is an AgentMessageDelta; null is the AgentMessage that repeats the deltas since
 * the one before (an answer is stored once, not twice); an AgentReasoning has no text, because it repeats its deltas as
 * well; any other event is stored as it is.
 */
export function encodeEvents(events: readonly NumberedEvent[]): string {
  return JSON.stringify(
    events.map(({ event }) => {
      if ('AgentMessageDelta' in event) return event.AgentMessageDelta.delta;
      if ('AgentReasoning' in event) return { AgentReasoning: {} };
      return 'AgentMessage' in event ? null : event;
    }),
  );
}

const StoredEvents = z.array(
  z.custom<string | null | TurnEvent>((item) => item === null || typeof item === 'string' || isEvent(item)),
);

/** Rebuilds events from stored chunks in order; must start at the first chunk, because a message repeats its deltas. */
export function createEventDecoder(): (firstSeq: number, text: string) => NumberedEvent[] {
  let message = '';
  let reasoning = '';
  return (firstSeq, text) => {
    const stored = StoredEvents.parse(JSON.parse(text));
    return stored.map((item, index) => {
      const seq = firstSeq + index;
      if (typeof item === 'string') {
        message += item;
        return { seq, event: { AgentMessageDelta: { delta: item } } };
      }
      if (item !== null) {
        if ('AgentReasoningDelta' in item) reasoning += item.AgentReasoningDelta.delta;
        if (!('AgentReasoning' in item)) return { seq, event: item };
        // Older versions store the text.
        const { text = reasoning }: { readonly text?: string } = item.AgentReasoning;
        reasoning = '';
        return { seq, event: { AgentReasoning: { text } } };
      }
      const event: TurnEvent = { AgentMessage: { message } };
      message = '';
      return { seq, event };
    });
  };
}
