// One conversation of the page: its messages, and the turn that runs. The page sends a prompt once; the client follows
// its turn over cuts, and a reload finds the running turn again.
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { randomId } from '../../../shared/client/random-id.ts';
import type { TurnRequest } from '../../../shared/client/turns/turn-stream.ts';
import { METHODS } from '../../../shared/protocol.ts';
import { type Client, check } from '../gateway/client.ts';
import { stopped, toFailure } from '../gateway/failure.ts';
import { Answered, Anything, History, Resumed, Status } from '../gateway/results.ts';
import { createValue, type Value } from '../view.ts';
import {
  type Draft,
  imagesOf,
  type Message,
  promptMessage,
  RUNNING,
  toPrompt,
  withEnd,
  withEvent,
  withFailure,
} from './messages.ts';

export interface ConversationState {
  readonly phase: 'loading' | 'ready' | 'running' | 'error';
  readonly messages: readonly Message[];
  readonly cancelling: boolean;
  readonly failure?: GatewayError | undefined;
  /** A prompt that the gateway did not accept: it is put back into the form. */
  readonly refused?: Draft | undefined;
}

/** As typed: what is empty is not sent. */
export interface PromptOptions {
  readonly model: string;
  readonly instructions: string;
}

interface Place {
  readonly after_seq?: number;
}

const HISTORY_PAGES_MAX = 10;
const HISTORY_PAGE = 200;

export class Conversation {
  readonly sessionId: string;
  readonly state: Value<ConversationState> = createValue<ConversationState>({
    phase: 'loading',
    messages: [],
    cancelling: false,
  });
  readonly #client: Client;
  readonly #left = new AbortController();
  readonly #onTurnEnd: () => void;

  /** `onTurnEnd` is called after every turn. */
  constructor(client: Client, sessionId: string, onTurnEnd: () => void) {
    this.sessionId = sessionId;
    this.#client = client;
    this.#onTurnEnd = onTurnEnd;
  }

  /** `why`: the reason of a repeated load, shown until the turn that it follows has ended. */
  async load(why: Pick<ConversationState, 'failure' | 'refused'> = {}): Promise<void> {
    const { signal } = this.#left;
    this.#change({ phase: 'loading', failure: undefined, ...why });
    try {
      const found = await this.#client.call(Status, METHODS.status, this.#session, signal);
      if (found.status === 'not_found') return this.#change({ phase: 'ready', messages: [] });
      this.#change({ messages: await this.#readHistory() });
      if (found.status === 'running' && found.turn !== undefined) {
        const params = { ...this.#session, turn_id: found.turn.turn_id, after_seq: 0 };
        await this.#run({ method: METHODS.resume, params });
      }
      this.#change({ phase: 'ready', failure: undefined });
    } catch (error) {
      if (!signal.aborted) this.#change({ phase: 'error', failure: toFailure(error) });
    }
  }

  /** `place`: the message that the prompt follows, if it replaces later ones. */
  async send(draft: Draft, { model, instructions }: PromptOptions, place: Place = {}): Promise<void> {
    if (this.state.current.phase === 'running') return;
    const options = { ...(model && { model }), ...(instructions && { instructions }), ...place };
    this.#change({ messages: [...this.state.current.messages, promptMessage(draft)], refused: undefined });
    const params = { ...this.#session, prompt: toPrompt(draft), ...options, idempotency_key: randomId() };
    await this.#run({ method: METHODS.prompt, params });
    const { messages } = this.state.current;
    const failure = messages.at(-1)?.failure;
    if (failure?.reason !== 'session_busy') return;
    // Another client has started a turn: it is followed here, so that it can be cancelled here.
    this.#change({ messages: messages.slice(0, -2) });
    await this.load({ failure, refused: draft });
  }

  /** Sends the last prompt again, after its turn failed. */
  async retry(options: PromptOptions): Promise<void> {
    const { messages } = this.state.current;
    const [prompt, answer] = messages.slice(-2);
    if (prompt?.role !== 'user' || answer?.state !== 'failed') return;
    this.#change({ messages: messages.slice(0, -2) });
    await this.send({ text: prompt.content, images: prompt.images ?? [] }, options, await this.#placeOfFailed());
  }

  async cancel(): Promise<void> {
    const { signal } = this.#left;
    this.#change({ cancelling: true });
    try {
      await this.#client.call(Anything, METHODS.cancel, this.#session, signal);
    } catch (error) {
      if (!signal.aborted) this.#change({ cancelling: false, failure: toFailure(error) });
    }
  }

  /** Stops following; a running turn continues at the gateway. */
  leave(): void {
    this.#left.abort(stopped());
  }

  get #session(): { readonly session_id: string } {
    return { session_id: this.sessionId };
  }

  /** Where the prompt of a failed turn is stored, so that the next attempt replaces it; empty if none is stored. */
  async #placeOfFailed(): Promise<Place> {
    try {
      const params = { ...this.#session, order: 'newest', limit: 2 };
      const { messages } = await this.#client.call(History, METHODS.history, params, this.#left.signal);
      const [last] = messages;
      const prompt = messages.find(({ role, turn_id }) => role === 'user' && turn_id === last?.turn_id);
      return last?.error === undefined || prompt === undefined ? {} : { after_seq: prompt.seq - 1 };
    } catch {
      return {};
    }
  }

  /** The newest messages, oldest first. */
  async #readHistory(): Promise<Message[]> {
    const messages: Message[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < HISTORY_PAGES_MAX; page++) {
      const params = {
        ...this.#session,
        order: 'newest',
        limit: HISTORY_PAGE,
        ...(cursor !== undefined && { cursor }),
      };
      const found = await this.#client.call(History, METHODS.history, params, this.#left.signal);
      for (const { role, content, parts, partial } of found.messages) {
        const images = imagesOf(parts);
        messages.push({ role, content, state: partial ? 'partial' : 'done', ...(images.length > 0 && { images }) });
      }
      cursor = found.next_cursor;
      if (cursor === undefined) break;
    }
    return messages.reverse();
  }

  /** Follows one turn to its end in a new message. */
  async #run(request: TurnRequest): Promise<void> {
    const { signal } = this.#left;
    this.#change({ phase: 'running', cancelling: false, messages: [...this.state.current.messages, RUNNING] });
    try {
      const events = this.#client.follow(request, signal);
      let step = await events.next();
      for (; step.done !== true; step = await events.next()) {
        const { event } = step.value;
        this.#changeLast((message) => withEvent(message, event));
      }
      const { value } = step;
      const { content, status } =
        request.method === METHODS.resume ? check(Resumed, value) : { ...check(Answered, value), status: 'completed' };
      this.#changeLast((message) => withEnd(message, status, content));
    } catch (error) {
      if (signal.aborted) return;
      this.#changeLast((message) => withFailure(message, toFailure(error)));
    }
    this.#change({ phase: 'ready', cancelling: false });
    this.#onTurnEnd();
  }

  #change(part: Partial<ConversationState>): void {
    this.state.set({ ...this.state.current, ...part });
  }

  #changeLast(update: (message: Message) => Message): void {
    const { messages } = this.state.current;
    const last = messages.at(-1);
    if (last !== undefined) this.#change({ messages: [...messages.slice(0, -1), update(last)] });
  }
}
