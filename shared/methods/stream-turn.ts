// Sends the events of a running turn to the caller as `conversation.event` notifications. Each is sent after the caller
// has received the previous one, so that a slow reader delays only itself.
import { providerOf } from '../config/values/model-id.ts';
import type { NumberedEvent } from '../conversations/records/event-log.ts';
import type { TurnHandle } from '../conversations/turns/follow/turn-readers.ts';
import type { EndedTurn } from '../conversations/turns/turn.ts';
import { syntheticTerminalEvent } from '../conversations/turns/turn-record.ts';
import { RpcError } from '../errors.ts';
import { HEADERS, NOTIFICATIONS } from '../protocol.ts';
import type { MethodContext } from './define-method.ts';

/**
 * Resolves with the turn's end when every event after `afterSeq` is sent (`lastSeq` is the last one, 0 if the transport
 * cannot stream), or the reader has disconnected.
 */
export async function streamTurn(
  turn: TurnHandle,
  afterSeq: number,
  context: MethodContext,
): Promise<EndedTurn & { readonly lastSeq: number }> {
  if (context.transport === 'http') return { ...(await metered(turn, context)), lastSeq: 0 };
  let lastSeq = afterSeq;
  const send = async ({ seq, event }: NumberedEvent): Promise<void> => {
    const params = {
      session_id: turn.sessionId,
      conversation_id: turn.conversationId,
      turn_id: turn.turnId,
      seq,
      event,
    };
    lastSeq = seq;
    await context.notify(NOTIFICATIONS.turnEvent, params, `${turn.turnId}:${seq}`);
  };
  for await (const numbered of turn.read(afterSeq, context.signal)) await send(numbered);
  const ended = await metered(turn, context);
  const beyond = lastSeq === afterSeq ? syntheticTerminalEvent(ended.turn, afterSeq) : undefined;
  if (beyond !== undefined) await send(beyond);
  return { ...ended, lastSeq: lastSeq === afterSeq ? (ended.events.at(-1)?.seq ?? 0) : lastSeq };
}

/**
 * The last event that the client of a broken SSE stream received: `Last-Event-ID: <turn_id>:<seq>`; undefined without
 * the header. Throws `invalid_params`.
 */
export function readLastEventId(
  header: string | undefined,
): { readonly turnId: string; readonly afterSeq: number } | undefined {
  if (header === undefined) return undefined;
  const [, turnId, seq] = /^([\w-]{1,128}):(\d{1,15})$/.exec(header) ?? [];
  if (turnId !== undefined) return { turnId, afterSeq: Number(seq) };
  throw new RpcError('invalid_params', {
    data: { issues: [{ path: HEADERS.lastEventId, message: 'must be <turn_id>:<seq>, as sent in the stream' }] },
  });
}

/** Waits for the end of the turn; adds its time to the timings of the request, and what it was to the log line. */
async function metered(turn: TurnHandle, { timings, details }: MethodContext): Promise<EndedTurn> {
  const { done, spans } = turn;
  details.session_id = turn.sessionId;
  details.turn_id = turn.turnId;
  try {
    const ended = await done;
    const { model, usage } = ended.turn;
    details.model = model;
    details.provider = providerOf(model) || undefined;
    details.input_tokens = usage.input_tokens;
    details.output_tokens = usage.output_tokens;
    details.cached_input_tokens = usage.cached_input_tokens;
    details.reasoning_tokens = usage.reasoning_tokens;
    details.fallback_from = failedModels(ended.events);
    return ended;
  } finally {
    for (const span of spans) timings.add(span);
  }
}

/** The models that failed before the one that answered; undefined if there is none. */
function failedModels([first]: EndedTurn['events']): string | undefined {
  const failed =
    first !== undefined && 'TaskStarted' in first.event ? first.event.TaskStarted.fallback_from : undefined;
  return failed?.map(({ model }) => model).join(' ');
}
