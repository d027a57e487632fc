// The engine `codex/...`: a turn of the real Codex agent, by `codex app-server` in the sandbox of the key. Owns one turn from prompt to
// terminal notification; refuses to run where there is no sandbox, and never steers a running turn (the conversation's lease sees to that).
import { RpcError } from '../../errors.ts';
import type { Engine, EngineEvent, EngineState, Outcome, TurnInput } from '../engine.ts';
import type { CodexBinary } from './binary.ts';
import { CodexRefusal } from './client.ts';
import type { ConfigOptions } from './config-toml.ts';
import { toError } from './failures.ts';
import type { Launcher } from './launcher.ts';
import { createPool, type PoolLimits } from './pool.ts';
import { type CodexProcess, type LoadedThread, startCodex } from './process.ts';
import type { Notification } from './protocol.ts';
import { hashMessage } from './rollout.ts';
import { openThread, saveThread, type ThreadParts, toModelId } from './threads.ts';
import { createToolRunner } from './tools.ts';
import { createTranslation, type TurnTranslation } from './translate.ts';

export interface CodexOptions {
  readonly launcher: Launcher;
  readonly binary: CodexBinary;
  /** Directory of the machine for the app-servers' own files; what is in it does not outlive them. */
  readonly directory: string;
  /** Of the Responses API, by the kind of credentials. */
  readonly baseUrls: ConfigOptions['baseUrls'];
  /** The deployment's own; undefined: only callers' own credentials. */
  readonly apiKey: string | undefined;
  readonly state: EngineState;
  readonly limits?: PoolLimits;
  warn(message: string, error: unknown): void;
}

/** Between the wish to stop a turn and the end of its process. */
const INTERRUPT_MS = 3_000;
const TURN_TIMEOUT_MS = 900_000;
const ANSWER_CHARS_MAX = 4 << 20;
const QUEUE_MAX = 100_000;

/** Errors: see Engine; also `sandbox_unavailable` and `unavailable`. Call `close` before the process ends. */
export function createCodexEngine(options: CodexOptions): Engine & { close(): Promise<void> } {
  const { launcher, binary, directory, baseUrls } = options;
  const pool = createPool((keyId) => startCodex({ launcher, binary, keyId, directory, baseUrls }), options.limits);

  return {
    close: () => pool.close(),
    async *run(turn, { signal: given }) {
      if (turn.keyId === undefined) throw new RpcError('internal', { cause: new Error('codex needs a key id') });
      const signal = AbortSignal.any([given, AbortSignal.timeout(TURN_TIMEOUT_MS)]);
      const { process, release } = await pool.borrow(turn.keyId, signal);
      try {
        const thread = await openThread(options, process, turn, signal);
        return yield* runTurn(options, process, thread, turn, signal);
      } catch (error) {
        given.throwIfAborted();
        if (signal.aborted) throw timeout();
        throw error instanceof CodexRefusal ? refused(error) : error;
      } finally {
        release();
      }
    },
  };
}

async function* runTurn(
  parts: ThreadParts,
  process: CodexProcess,
  thread: LoadedThread,
  turn: TurnInput,
  signal: AbortSignal,
): AsyncGenerator<EngineEvent, Outcome, void> {
  const { client } = process;
  const { threadId } = thread.known;
  const inbox = createInbox();
  const called = createToolRunner(turn.tools, (event) => inbox.push({ event }), signal);
  const unlisten = client.listen(threadId, { notified: inbox.push, called });
  void client.closed.then((lastWords) => inbox.fail(ended(lastWords)));
  const prompt = turn.messages.at(-1)?.content ?? '';
  let run: { readonly turnId: string; readonly translation: TurnTranslation } | undefined;
  try {
    // Not bound to the signal: a turn whose id is not known could not be interrupted.
    const started = await client.request('turn/start', {
      threadId,
      input: [{ type: 'text', text: prompt, text_elements: [] }],
      model: toModelId(turn.model),
    });
    const turnId = started.turn.id;
    const translation = createTranslation(turnId);
    run = { turnId, translation };
    while (translation.ended === undefined) {
      const news = await inbox.next(signal);
      for (const event of 'event' in news ? [news.event] : translation.toEvents(news)) yield event;
      if (translation.content.length > ANSWER_CHARS_MAX) throw tooLong();
    }
    const { status, failure } = translation.ended;
    if (status !== 'completed') throw status === 'failed' ? toError(failure, toModelId(turn.model)) : interrupted();
    const { content, usage } = translation;
    return { content, usage, model: turn.model, finishReason: 'stop' };
  } finally {
    if (run !== undefined) {
      const { turnId, translation } = run;
      if (translation.ended === undefined) await interrupt(process, threadId, turnId, translation, inbox);
      const isCompleted = translation.ended?.status === 'completed' && translation.content !== '';
      const last = isCompleted
        ? ({ role: 'assistant', content: translation.content } as const)
        : ({ role: 'user', content: prompt } as const);
      const seq = (turn.trimmed ?? 0) + turn.messages.length + (isCompleted ? 1 : 0);
      if (translation.ended !== undefined)
        await saveThread(parts, process, turn.conversationId, {
          ...thread,
          known: { ...thread.known, seq, hash: hashMessage(last) },
        });
    }
    unlisten();
  }
}

/** Stops the turn, and with it the call to the provider; a process that does not stop is ended. */
async function interrupt(
  process: CodexProcess,
  threadId: string,
  turnId: string,
  translation: TurnTranslation,
  inbox: Inbox,
): Promise<void> {
  const within = AbortSignal.timeout(INTERRUPT_MS);
  try {
    await process.client.request('turn/interrupt', { threadId, turnId }, within).catch((error: unknown) => {
      // "no active turn to interrupt": it has just ended by itself.
      if (!(error instanceof CodexRefusal)) throw error;
    });
    while (translation.ended === undefined) {
      const news = await inbox.next(within);
      if (!('event' in news)) translation.toEvents(news);
    }
  } catch {
    await process.end();
  }
}

/** What the app-server says, and what the gateway does for it. */
type News = Notification | { readonly event: EngineEvent };

interface Inbox {
  push(news: News): void;
  fail(error: Error): void;
  /** The next one; throws the signal's reason, or what `fail` was given once all is read. */
  next(signal: AbortSignal): Promise<News>;
}

function createInbox(): Inbox {
  const queue: News[] = [];
  let failure: Error | undefined;
  let wake = (): void => {};
  return {
    push(news) {
      if (queue.length < QUEUE_MAX) queue.push(news);
      else failure ??= tooLong();
      wake();
    },
    fail(error) {
      failure ??= error;
      wake();
    },
    async next(signal) {
      for (;;) {
        signal.throwIfAborted();
        const first = queue.shift();
        if (first !== undefined) return first;
        if (failure !== undefined) throw failure;
        await new Promise<void>((resolve) => {
          const woken = (): void => {
            signal.removeEventListener('abort', woken);
            wake = (): void => {};
            resolve();
          };
          wake = woken;
          signal.addEventListener('abort', woken, { once: true });
        });
      }
    },
  };
}

function ended(lastWords: string): RpcError {
  const cause = new Error(`codex app-server ended during a turn: ${lastWords}`);
  return new RpcError('upstream_error', { message: 'Codex ended during the turn', data: { provider: 'codex' }, cause });
}

function interrupted(): RpcError {
  return new RpcError('upstream_error', { message: 'Codex stopped the turn', data: { provider: 'codex' } });
}

function tooLong(): RpcError {
  const message = 'Codex sent more than an answer may hold';
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, retryable: false });
}

function refused(cause: CodexRefusal): RpcError {
  return new RpcError('upstream_error', { message: 'Codex refused the turn', data: { provider: 'codex' }, cause });
}

function timeout(): RpcError {
  const message = `Codex did not finish within ${TURN_TIMEOUT_MS / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: { provider: 'codex' } });
}
