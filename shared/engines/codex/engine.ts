// The engine `codex/...`: a turn of the real Codex agent, by `codex app-server` in the sandbox of the key. Owns one
// turn from prompt to terminal notification; refuses to run where there is no sandbox, and never steers a running turn
// (the conversation's lease sees to that).

import { deadline } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import type { EngineEvent } from '../../turn-events.ts';
import { NO_USAGE } from '../../usage.ts';
import { ContextOverflow } from '../context-overflow.ts';
import type { Engine, EngineState, Outcome, TurnInput } from '../engine.ts';
import { toEvent, trimTurn } from '../overflow.ts';
import { clean } from '../provider-words.ts';
import { toError } from './failures.ts';
import { hashMessage, type PackedThread } from './rollout.ts';
import { type CodexProcess, type LoadedThread, startCodex } from './server/app-server.ts';
import type { CodexBinary } from './server/binary.ts';
import { CodexRefusal } from './server/client.ts';
import type { ConfigOptions } from './server/config-toml.ts';
import { createInbox, type Inbox } from './server/inbox.ts';
import type { Launcher } from './server/launcher.ts';
import { createPool, type PoolLimits } from './server/pool.ts';
import { type Relay, startRelay } from './server/relay.ts';
import { makeTemplate, type Template } from './template.ts';
import { loadThread, openThread, saveThread, type ThreadParts, toModelId } from './threads.ts';
import { createToolRunner } from './tools.ts';
import { createTranslation, type TurnTranslation } from './translate.ts';

export interface CodexOptions {
  readonly launcher: Launcher;
  readonly binary: CodexBinary;
  /** Directory of the machine for the app-servers' own files; what is in it does not outlive them. */
  readonly directory: string;
  /** Of the Responses API, by the kind of credentials. */
  readonly baseUrls: ConfigOptions['baseUrls'];
  readonly proxy?: Parameters<typeof startRelay>[1] | undefined;
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
/** After so many steps all of the conversation but the prompt is left out. */
const TRIMS_MAX = 12;

export interface CodexEngine extends Engine {
  /** Does ahead of the first turn what every app-server needs at its start. Never throws; turns do not wait for it. */
  warm(): Promise<void>;
  /** Call before the process ends. */
  close(): Promise<void>;
}

/** Errors: see Engine; also `sandbox_unavailable` and `unavailable`. */
export function createCodexEngine(options: CodexOptions): CodexEngine {
  const { launcher, binary, directory, baseUrls } = options;
  let relay: Promise<Relay> | undefined;
  let template: Template | undefined;
  let warming: Promise<void> | undefined;
  const settings = async () => {
    relay ??= startRelay(baseUrls, options.proxy).catch((error: unknown) => {
      relay = undefined;
      throw error;
    });
    return { launcher, binary, directory, baseUrls: (await relay).baseUrls };
  };
  const pool = createPool(
    async (keyId) => startCodex({ ...(await settings()), keyId, fill: template?.copyTo }),
    options.limits,
  );

  const warm = async (): Promise<void> => {
    try {
      template = await makeTemplate(await settings());
    } catch (error) {
      options.warn('codex could not be warmed up', error);
    }
  };

  return {
    warm() {
      warming ??= warm();
      return warming;
    },
    async close() {
      await Promise.all([pool.close(), warming]);
      await template?.close();
      await relay?.then((open) => open.close());
    },
    async *run(turn, { signal: given }) {
      if (turn.keyId === undefined) throw new RpcError('internal', { cause: new Error('codex needs a key id') });
      const signal = deadline(TURN_TIMEOUT_MS, given);
      // A new process takes longer to start than a saved thread to be read; one that runs most likely has the thread.
      const isAhead = turn.messages.length > 1 && !pool.has(turn.keyId);
      const ahead = isAhead ? loadThread(options, turn.conversationId, signal) : undefined;
      ahead?.catch(() => undefined);
      const { process, release } = await pool.borrow(turn.keyId, signal);
      try {
        return yield* runTrimming(options, process, turn, { signal, ahead });
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

/** Runs the turn, in a new thread with fewer of the messages whenever the conversation is too long for the model. */
async function* runTrimming(
  parts: ThreadParts,
  process: CodexProcess,
  turn: TurnInput,
  { signal, ahead }: { readonly signal: AbortSignal; readonly ahead: Promise<PackedThread | undefined> | undefined },
): AsyncGenerator<EngineEvent, Outcome, void> {
  let sent = turn;
  for (let trims = 1; ; trims++) {
    const thread = await openThread(parts, process, sent, signal, trims === 1 ? { ahead } : { isNew: true });
    const events = runTurn(parts, process, thread, sent, signal);
    let hasBegun = false;
    try {
      for (;;) {
        const step = await events.next();
        if (step.done) return step.value;
        hasBegun ||= !('TokenCount' in step.value || 'StreamError' in step.value);
        yield step.value;
      }
    } catch (error) {
      if (!(error instanceof ContextOverflow)) throw error;
      if (hasBegun) throw error.inAnswer();
      const trimmed = trimTurn(sent, error.limitTokens, trims >= TRIMS_MAX);
      if (trimmed === undefined) throw error;
      sent = trimmed.turn;
      yield toEvent(trimmed);
    } finally {
      await events.return({ content: '', usage: NO_USAGE, model: turn.model });
    }
  }
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
  const inbox = createInbox(tooLong);
  const called = createToolRunner(turn.tools, (event) => inbox.push({ event }), signal);
  const unlisten = client.listen(threadId, { notified: inbox.push, called });
  void client.closed.then((stderrTail) => inbox.fail(ended(stderrTail)));
  const prompt = turn.messages.at(-1)?.content ?? '';
  const modelId = toModelId(turn.model);
  // Naming the model again has Codex make up its settings anew.
  const isSwitched = modelId !== thread.modelId;
  const loaded = process.threads.get(turn.conversationId);
  if (isSwitched && loaded !== undefined) process.threads.set(turn.conversationId, { ...loaded, modelId: undefined });
  let run: { readonly turnId: string; readonly translation: TurnTranslation } | undefined;
  try {
    // Not bound to the signal: a turn whose id is not known could not be interrupted.
    const started = await client.request('turn/start', {
      threadId,
      input: [{ type: 'text', text: prompt, text_elements: [] }],
      ...(isSwitched && { model: modelId }),
    });
    const turnId = started.turn.id;
    const translation = createTranslation(turnId);
    run = { turnId, translation };
    while (translation.ended === undefined) {
      const item = await inbox.next(signal);
      for (const event of 'event' in item ? [item.event] : translation.toEvents(item)) yield event;
      if (translation.content.length > ANSWER_CHARS_MAX) throw tooLong();
    }
    const { status, failure } = translation.ended;
    if (status !== 'completed') throw status === 'failed' ? toError(failure, modelId) : interrupted();
    const { content, usage } = translation;
    if (content === '') throw empty();
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
          modelId,
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
  const within = deadline(INTERRUPT_MS);
  try {
    await process.client.request('turn/interrupt', { threadId, turnId }, within).catch((error: unknown) => {
      // "no active turn to interrupt": it has just ended by itself.
      if (!(error instanceof CodexRefusal)) throw error;
    });
    while (translation.ended === undefined) {
      const item = await inbox.next(within);
      if (!('event' in item)) translation.toEvents(item);
    }
    // An interrupted turn leaves its command running, now and then or always, as versions differ.
    await process.client.request('thread/backgroundTerminals/clean', { threadId }, within);
  } catch {
    await process.end();
  }
}

/** The prompt had left: whether it was answered is not known. */
const SENT = { provider: 'codex', sent: true };

function ended(stderrTail: string): RpcError {
  const cause = new Error(`codex app-server ended during a turn: ${stderrTail}`);
  return new RpcError('upstream_error', { message: 'Codex ended during the turn', data: SENT, cause });
}

function interrupted(): RpcError {
  return new RpcError('upstream_error', { message: 'Codex stopped the turn', data: SENT });
}

function empty(): RpcError {
  const message = 'Codex ended the turn without an answer';
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, retryable: false });
}

function tooLong(): RpcError {
  const message = 'The answer of Codex is longer than this gateway takes of one turn (4 Mi characters)';
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, retryable: false });
}

function refused(cause: CodexRefusal): RpcError {
  const message = `Codex refused the turn: ${clean(cause.message)}`;
  return new RpcError('upstream_error', { message, data: { provider: 'codex' }, cause });
}

function timeout(): RpcError {
  const message = `Codex did not finish within ${TURN_TIMEOUT_MS / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: SENT });
}
