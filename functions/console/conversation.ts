// One conversation as the page holds it: its messages, the turn that runs, and how that turn is found again after a cut
// or a reload. A prompt is sent once: after a lost connection it is requested by its idempotency key or
// resumed, never repeated.

import { randomId } from '../../shared/client/random-id.ts';
import { METHODS, NOTIFICATIONS } from '../../shared/protocol.ts';
import type { EventBody } from '../../shared/turn-events.ts';
import type { Client } from './client.ts';
import { Failure, toFailure } from './failure.ts';
import { Answered, Anything, History, Resumed, Status, TurnNotification } from './results.ts';
import { createValue, type Value } from './view.ts';

export interface Message {
  readonly role: 'user' | 'assistant';
  readonly content: string;
  readonly reasoning?: string;
  /** What the agent did on the way, a line each. */
  readonly steps?: readonly string[];
  readonly state: 'done' | 'running' | 'cancelled' | 'failed' | 'partial';
  readonly failure?: Failure;
}

export interface ConversationState {
  readonly phase: 'loading' | 'ready' | 'running' | 'error';
  readonly messages: readonly Message[];
  readonly cancelling: boolean;
  readonly failure?: Failure | undefined;
  /** A prompt that the gateway did not take: its writer has it back. */
  readonly refused?: string | undefined;
}

/** As typed: what is empty is not sent. */
export interface PromptOptions {
  readonly model: string;
  readonly instructions: string;
}

export interface Conversation {
  readonly sessionId: string;
  readonly state: Value<ConversationState>;
  load(): Promise<void>;
  send(prompt: string, options: PromptOptions): Promise<void>;
  /** The last prompt once more, after its turn failed. */
  retry(options: PromptOptions): Promise<void>;
  cancel(): Promise<void>;
  /** Stops watching; a running turn goes on at the gateway. */
  leave(): void;
}

const STEPS_MAX = 100;
const HISTORY_PAGES_MAX = 10;

export function createConversation(client: Client, sessionId: string, onTurnEnd: () => void): Conversation {
  const state = createValue<ConversationState>({ phase: 'loading', messages: [], cancelling: false });
  const left = new AbortController();
  const { signal } = left;
  const change = (part: Partial<ConversationState>): void => state.set({ ...state.current, ...part });
  const changeLast = (part: Partial<Message>): void => {
    const { messages } = state.current;
    const last = messages.at(-1);
    if (last !== undefined) change({ messages: [...messages.slice(0, -1), { ...last, ...part }] });
  };
  const session = { session_id: sessionId };

  /** `why`: the reason of a repeated load, shown until the turn that it follows has ended. */
  async function load(why: Pick<ConversationState, 'failure' | 'refused'> = {}): Promise<void> {
    change({ phase: 'loading', failure: undefined, ...why });
    try {
      const found = await client.call(Status, METHODS.status, session, { signal });
      if (found.status === 'not_found') return change({ phase: 'ready', messages: [] });
      const messages = await readHistory();
      change({ messages });
      if (found.status === 'running' && found.turn !== undefined) {
        await run('conversation.resume', { ...session, turn_id: found.turn.turn_id, after_seq: 0 });
      }
      change({ phase: 'ready', failure: undefined });
    } catch (error) {
      if (!signal.aborted) change({ phase: 'error', failure: toFailure(error) });
    }
  }

  async function readHistory(): Promise<Message[]> {
    const messages: Message[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < HISTORY_PAGES_MAX; page++) {
      const params = { ...session, limit: 200, ...(cursor !== undefined && { cursor }) };
      const found = await client.call(History, METHODS.history, params, { signal });
      for (const { role, content, partial } of found.messages) {
        messages.push({ role, content, state: partial ? 'partial' : 'done' });
      }
      cursor = found.next_cursor;
      if (cursor === undefined) break;
    }
    return messages;
  }

  async function send(prompt: string, { model, instructions }: PromptOptions): Promise<void> {
    if (state.current.phase === 'running') return;
    const options = { ...(model && { model }), ...(instructions && { instructions }) };
    change({
      messages: [...state.current.messages, { role: 'user', content: prompt, state: 'done' }],
      refused: undefined,
    });
    await run('conversation.prompt', { ...session, prompt, ...options, idempotency_key: randomId() });
    const { messages } = state.current;
    const failure = messages.at(-1)?.failure;
    if (failure?.reason !== 'session_busy') return;
    // Another turn runs, begun elsewhere: follow that, so that it can be cancelled here.
    change({ messages: messages.slice(0, -2) });
    await load({ failure, refused: prompt });
  }

  /** Follows one turn to its end, over as many connections as it takes. */
  async function run(first: 'conversation.prompt' | 'conversation.resume', firstParams: object): Promise<void> {
    let turnId: string | undefined;
    let seq = 0;
    let [method, params]: readonly [string, object] = [first, firstParams];
    change({
      phase: 'running',
      cancelling: false,
      messages: [...state.current.messages, { role: 'assistant', content: '', state: 'running' }],
    });
    const onNotification = (name: string, payload: unknown): void => {
      const received = name === NOTIFICATIONS.turnEvent ? TurnNotification.safeParse(payload) : undefined;
      if (!received?.success || received.data.session_id !== sessionId || signal.aborted) return;
      if (turnId !== undefined && received.data.turn_id !== turnId) return;
      if (received.data.seq <= seq) return;
      turnId = received.data.turn_id;
      seq = received.data.seq;
      show(received.data.event);
    };
    for (;;) {
      try {
        if (method === 'conversation.prompt') {
          const { content } = await client.stream(Answered, method, params, onNotification, { signal });
          changeLast({ content, state: 'done' });
        } else {
          const { content, status } = await client.stream(Resumed, method, params, onNotification, { signal });
          if (status === 'completed') changeLast({ content, state: 'done' });
          else endEarly(status, content);
        }
        break;
      } catch (error) {
        if (signal.aborted) return;
        const failure = toFailure(error);
        if (failure.reason === 'connection_lost' || failure.reason === 'unreachable') {
          // Known to have begun: follow it. Not known: send it again with the same idempotency key, which runs it once.
          if (turnId !== undefined)
            [method, params] = ['conversation.resume', { ...session, turn_id: turnId, after_seq: seq }];
          if (await reconnected()) continue;
        } else if (failure.reason === 'idempotency_in_flight') {
          [method, params] = ['conversation.resume', { ...session, after_seq: seq }];
          continue;
        }
        const isCancelled = failure.reason === 'cancelled';
        changeLast({ state: isCancelled ? 'cancelled' : 'failed', ...(isCancelled ? {} : { failure }) });
        break;
      }
    }
    change({ phase: 'ready', cancelling: false });
    onTurnEnd();
  }

  /** A turn that is known only by its end, and did not complete. */
  function endEarly(status: string, stored: string): void {
    const { content = '', failure } = state.current.messages.at(-1) ?? {};
    // A gateway that crashed had sent more than it had stored.
    if (stored.length > content.length) changeLast({ content: stored });
    if (status === 'cancelled') changeLast({ state: 'cancelled' });
    else {
      const why = failure ?? new Failure({ reason: status, message: 'The turn did not complete' });
      changeLast({ state: 'failed', failure: why });
    }
  }

  /** Over HTTP there is nothing to wait for: a moment, then once more. */
  async function reconnected(): Promise<boolean> {
    try {
      await new Promise((resolve) => setTimeout(resolve, client.link.current === 'absent' ? 2_000 : 0));
      await client.settled(signal);
      return true;
    } catch {
      return false;
    }
  }

  function show(event: EventBody): void {
    const last = state.current.messages.at(-1);
    if (last === undefined) return;
    const { AgentMessageDelta: message, AgentReasoning: thought, Error: failure } = event;
    if (message) changeLast({ content: last.content + message.delta });
    if (thought) changeLast({ reasoning: (last.reasoning ?? '') + thought.text });
    if (failure) changeLast({ failure: new Failure({ reason: failure.reason, message: failure.message }) });
    const step = toStep(event);
    if (step !== undefined) changeLast({ steps: [...(last.steps ?? []), step].slice(-STEPS_MAX) });
  }

  return {
    sessionId,
    state,
    load: () => load(),
    send,
    async retry(options) {
      const [asked, answer] = state.current.messages.slice(-2);
      if (asked?.role !== 'user' || answer?.state !== 'failed') return;
      change({ messages: state.current.messages.slice(0, -2) });
      await send(asked.content, options);
    },
    async cancel() {
      change({ cancelling: true });
      try {
        await client.call(Anything, METHODS.cancel, session, { signal });
      } catch (error) {
        if (!signal.aborted) change({ cancelling: false, failure: toFailure(error) });
      }
    },
    leave: () => left.abort(new Failure({ reason: 'stopped', message: 'Stopped' })),
  };
}

function toStep(event: EventBody): string | undefined {
  if (event.ExecCommandBegin) return `ran ${event.ExecCommandBegin.command.join(' ')}`;
  if (event.ExecCommandEnd) return `exit code ${event.ExecCommandEnd.exit_code}`;
  if (event.McpToolCallBegin) return `called ${event.McpToolCallBegin.server}.${event.McpToolCallBegin.tool}`;
  if (event.McpToolCallEnd) return event.McpToolCallEnd.success ? 'the tool answered' : 'the tool failed';
  if (event.PatchApplyBegin) return `changes ${event.PatchApplyBegin.changes.length} file(s)`;
  return undefined;
}
