// Repairs a provider's event stream before the SDK reads it, because the SDK fails an answer when an event is unknown
// or lacks a required member: such events are removed or completed. A body that is no stream of events becomes an error
// that names its form.
import { isObject, type JsonObject } from '../../../json/json-object.ts';
import { NotAStream } from '../../failures/not-a-stream.ts';

/** The repair of one stream. */
export interface EventRepair {
  /** The events that replace an event; undefined: its bytes are unchanged; []: it is removed. */
  repair(event: JsonObject): readonly JsonObject[] | undefined;
  /**
   * Whether the line of an event is passed on without parsing it: text deltas in the provider's own form, which are
   * most of a stream. Each character of `line` is one byte (latin1).
   */
  isPlain?(line: string): boolean;
  /** The events that are missing before the end marker of OpenAI's protocol. */
  atEnd?(): readonly JsonObject[];
}

export interface StreamRepair {
  /** Takes the next bytes of the body, split at any position; returns the events that are complete. */
  push(piece: Buffer): Buffer;
  /** The rest of the body. Throws NotAStream when the body contained no event. */
  end(): Buffer;
}

const SAMPLE_BYTES_MAX = 8 << 10;
const LINE_END = 0x0a;
const DATA = 'data:';
const END_OF_EVENT = Buffer.from('\n\n');
const NOTHING = Buffer.alloc(0);
/** Ends a stream of OpenAI's protocol. */
const END_MARKER = '[DONE]';

export function createStreamRepair(repair: EventRepair, contentType: string): StreamRepair {
  /** The start of an incomplete line. */
  let open: Buffer[] = [];
  let sample: Buffer[] = [];
  let sampleBytes = 0;
  let hasEvents = false;

  /** `line`: the bytes as characters. */
  const repairLine = (line: string, bytes: Buffer): string | undefined => {
    hasEvents = true;
    if (repair.isPlain?.(line)) return undefined;
    const text = bytes.toString('utf8', DATA.length).trim();
    if (text === END_MARKER) return toLines(repair.atEnd?.() ?? [], line);
    // One of several data lines of an event: no JSON object.
    if (!text.startsWith('{')) return undefined;
    let event: unknown;
    try {
      event = JSON.parse(text);
    } catch {
      return undefined;
    }
    if (!isObject(event)) return undefined;
    return repair.repair(event)?.map(toLine).join('\n');
  };

  const lines = (whole: Buffer): Buffer => {
    const ready: Buffer[] = [];
    // Lines are found and recognised in a string: each call of a Buffer's method costs more than a short line.
    const text = whole.toString('latin1');
    let kept = 0;
    for (let start = 0; start < text.length; ) {
      const at = text.indexOf('\n', start);
      const end = at === -1 ? text.length : at + 1;
      if (text.startsWith(DATA, start)) {
        const repaired = repairLine(text.slice(start, end), whole.subarray(start, end));
        if (repaired !== undefined) {
          ready.push(whole.subarray(kept, start), Buffer.from(repaired));
          kept = end;
        }
      }
      start = end;
    }
    if (kept === 0) return whole;
    ready.push(whole.subarray(kept));
    return Buffer.concat(ready);
  };

  const remember = (piece: Buffer): void => {
    if (hasEvents || sampleBytes >= SAMPLE_BYTES_MAX) {
      if (hasEvents) sample = [];
      return;
    }
    sample.push(piece.subarray(0, SAMPLE_BYTES_MAX - sampleBytes));
    sampleBytes += piece.length;
  };

  return {
    push(piece) {
      remember(piece);
      const last = piece.lastIndexOf(LINE_END);
      if (last === -1) {
        open.push(piece);
        return NOTHING;
      }
      const head = piece.subarray(0, last + 1);
      const whole = open.length === 0 ? head : Buffer.concat([...open, head]);
      open = last + 1 === piece.length ? [] : [piece.subarray(last + 1)];
      return lines(whole);
    },
    end() {
      // Some servers do not send the blank line after the last event.
      const rest = lines(Buffer.concat([...open, END_OF_EVENT]));
      open = [];
      if (!hasEvents) throw new NotAStream(Buffer.concat(sample).toString().trim(), contentType);
      return rest;
    },
  };
}

function toLine(event: JsonObject): string {
  return `data: ${JSON.stringify(event)}\n`;
}

/** The events before a line; undefined without events. */
function toLines(events: readonly JsonObject[], line: string): string | undefined {
  return events.length === 0 ? undefined : `${events.map(toLine).join('\n')}\n${line}`;
}
