// The small parts of the client are right: the reader of Server-Sent Events, the waits between attempts, and what may
// be repeated. Its types follow the gateway's.

import fc from 'fast-check';
import { describe, expect, expectTypeOf, it } from 'vitest';
import type { Notification } from '../../../shared/client/events.ts';
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import type { OpenStream } from '../../../shared/client/transport/http.ts';
import { readEvents } from '../../../shared/client/transport/read-body.ts';
import { startDeadline, startWatch } from '../../../shared/client/transport/timer.ts';
import { isRepeatable, mayRetry, retryDelayMs } from '../../../shared/client/turns/retry.ts';
import { followTurn } from '../../../shared/client/turns/turn-stream.ts';
import * as methods from '../../../shared/methods/index.ts';
import { METHODS, NOTIFICATIONS } from '../../../shared/protocol.ts';
import type { EventBody, TurnEvent } from '../../../shared/turn-events.ts';

/** Reads a body that arrives in these pieces. */
async function read(pieces: readonly Uint8Array[]): Promise<string[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
  const watch = startWatch(5_000, new AbortController().signal);
  const events: string[] = [];
  for await (const data of readEvents(new Response(body), watch)) events.push(data);
  watch.end();
  return events;
}

describe('the reader of events', () => {
  it('the reader of events finds the same events however the bytes are cut and lines are ended', async () => {
    const line = fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => text.replaceAll(/[\r\n]/g, '').trim());
    const events = fc.array(fc.array(line, { minLength: 1, maxLength: 3 }), { maxLength: 5 });
    const property = fc.asyncProperty(
      events,
      fc.constantFrom('\n', '\r\n', '\r'),
      fc.infiniteStream(fc.integer({ min: 1, max: 7 })),
      async (wanted, end, sizes) => {
        const text = wanted
          .map((lines) => `id: 1${end}: a comment${end}${lines.map((data) => `data: ${data}${end}`).join('')}${end}`)
          .join('');
        // One more line, so that a last carriage return is known to be whole.
        const bytes = new TextEncoder().encode(`${text}: end${end}x`);
        const pieces: Uint8Array[] = [];
        for (let at = 0; at < bytes.length; ) {
          const size = sizes.next().value ?? 1;
          pieces.push(bytes.subarray(at, at + size));
          at += size;
        }
        expect(await read(pieces)).toEqual(wanted.map((lines) => lines.join('\n')));
      },
    );
    await fc.assert(property, { numRuns: 100 });
  });

  it('the reader of events omits an event whose end was not received', async () => {
    expect(await read([new TextEncoder().encode('data: a\n\ndata: b\n')])).toEqual(['a']);
  });
});

it('a turn reads only its own events from a connection that is shared', async () => {
  const note = (session_id: string, turn_id: string, seq: number): Notification => ({
    method: NOTIFICATIONS.turnEvent,
    params: { session_id, conversation_id: 'c', turn_id, seq, event: { AgentMessageDelta: { delta: turn_id } } },
  });
  const open: OpenStream = async function* () {
    yield* [note('other', 'x', 1), note('s', 'own', 1), note('s', 'next', 2), note('other', 'own', 3)];
    yield note('s', 'own', 2);
    return { content: 'done' };
  };
  const deadline = startDeadline(5_000, undefined);
  const call = async (): Promise<unknown> => undefined;
  const request = { method: METHODS.prompt, params: { session_id: 's' } };
  const seqs: number[] = [];
  for await (const event of followTurn({ open, call, deadline, retries: 0 }, request)) {
    expect(event.turn_id).toBe('own');
    seqs.push(event.seq);
  }
  deadline.end();
  expect(seqs).toEqual([1, 2]);
});

describe('a wait', () => {
  it('a wait is never shorter than what the gateway sent, never longer than 8 s otherwise', () => {
    fc.assert(
      fc.property(fc.option(fc.nat(60_000), { nil: undefined }), fc.nat(40), (retryAfterMs, attempt) => {
        const delayMs = retryDelayMs(new GatewayError({ reason: 'unavailable', message: '', retryAfterMs }), attempt);
        if (retryAfterMs === undefined) expect(delayMs).toBeLessThanOrEqual(8_000);
        else expect(delayMs).toBeGreaterThanOrEqual(retryAfterMs);
      }),
    );
  });
});

describe('repetition', () => {
  it('a retry is allowed for reads, and otherwise only for methods that do the same when called twice', () => {
    const repeatable = Object.values(methods).filter(({ name }) => isRepeatable(name));
    const reads = Object.values(methods).filter(({ cost }) => cost === 'read');
    // Its `unavailable` is the report of a gateway that is degraded.
    expect(reads.map(({ name }) => name).filter((name) => !isRepeatable(name))).toEqual(['system.health']);
    expect(repeatable.filter(({ cost }) => cost === 'read' || cost === 'free').length).toBeGreaterThanOrEqual(10);
    expect(repeatable.filter(({ cost }) => cost === 'work').map(({ name }) => name)).toEqual([
      'auth.ticket',
      'conversation.cancel',
      'conversation.delete',
      'conversation.prompt',
      'conversation.update',
      'events.subscribe',
      'owner.erase',
    ]);
  });

  it.each(['exec', 'apply', 'interactive.input', 'mcp.call', 'bff.proxy', 'auth.login'])(
    'repetition is not allowed for %s, but where the limit refused it',
    (method) => {
      const unavailable = new GatewayError({ reason: 'unavailable', message: '', code: 503, retryable: true });
      const limited = new GatewayError({ reason: 'rate_limited', message: '', code: 429, retryable: true });
      expect(mayRetry(unavailable, isRepeatable(method))).toBe(false);
      expect(mayRetry(limited, isRepeatable(method))).toBe(true);
    },
  );
});

/** Stored and sent as they are: callers rely on each of them. */
type EventName =
  | 'TaskStarted'
  | 'AgentMessageDelta'
  | 'AgentMessage'
  | 'AgentReasoning'
  | 'AgentReasoningDelta'
  | 'TokenCount'
  | 'McpToolCallBegin'
  | 'McpToolCallEnd'
  | 'ExecCommandBegin'
  | 'ExecCommandOutputDelta'
  | 'ExecCommandEnd'
  | 'PatchApplyBegin'
  | 'PatchApplyEnd'
  | 'StreamError'
  | 'ContextTrimmed'
  | 'TurnAborted'
  | 'Error'
  | 'TaskComplete';

it('every event of a turn has a pinned name, and fits the type that readers get', () => {
  expectTypeOf<TurnEvent>().toExtend<EventBody>();
  expectTypeOf<keyof EventBody>().toEqualTypeOf<EventName>();
});
