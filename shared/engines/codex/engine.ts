// The engine `codex/...`: runs turns of the Codex agent with `codex app-server` in the sandbox of the key, through a
// CodexHost. The lease of the conversation ensures that a thread has only one turn at a time.
import { deadline } from '../../async.ts';
import type { CodexHost } from '../../codex-host/codex-host.ts';
import { RpcError } from '../../errors.ts';
import type { EngineEvent } from '../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../usage.ts';
import type { Engine, EngineState, Outcome, RunOptions, TurnInput } from '../engine.ts';
import { ContextOverflow } from '../failures/context-overflow.ts';
import { createSentTurn } from '../sent-turn.ts';
import { CodexRefusal } from './protocol/client.ts';
import type { ProviderId } from './relay/account.ts';
import { createRelay } from './relay/relay.ts';
import { type AppServer, createAppServers } from './threads/app-servers.ts';
import type { PackedThread } from './threads/rollout.ts';
import { loadThread, openThread, type ThreadDeps } from './threads/threads.ts';
import { runTurn } from './turn.ts';
import { requestRefused, turnTimeout } from './turn-errors.ts';

export interface CodexOptions {
  /** Runs Codex, in this process or in the sandbox service. */
  readonly host: CodexHost;
  /** Base URLs of the Responses API, by kind of credentials. */
  readonly baseUrls: Readonly<Record<ProviderId, string>>;
  readonly proxy?: Parameters<typeof createRelay>[1] | undefined;
  /** The key of the deployment; undefined: only credentials of callers are used. */
  readonly apiKey: string | undefined;
  readonly state: EngineState;
  warn(message: string, error: unknown): void;
}

const TURN_TIMEOUT_MS = 900_000;

export interface CodexEngine extends Engine {
  /** Call it before the process ends. */
  close(): Promise<void>;
}

/** Errors: see Engine, and those of `CodexHost.open`. */
export function createCodexEngine(options: CodexOptions): CodexEngine {
  const relay = createRelay(options.baseUrls, options.proxy);
  const appServers = createAppServers(options.host, relay);

  return {
    async close() {
      relay.close();
    },
    async *run(turn, { signal: given, record }) {
      if (turn.keyId === undefined) throw new RpcError('internal', { cause: new Error('codex needs a key id') });
      const signal = deadline(TURN_TIMEOUT_MS, given);
      // The saved thread is read while a new app-server starts, which takes longer. A running app-server most likely
      // has the thread.
      const isAhead = turn.messages.length > 1 && !appServers.has(turn.keyId);
      const ahead = isAhead ? loadThread(options, turn.conversationId, signal) : undefined;
      ahead?.catch(() => undefined);
      const appServer = await appServers.borrow(turn.keyId, signal);
      try {
        return yield* runTrimming(options, appServer, turn, { signal, record, ahead });
      } catch (error) {
        given.throwIfAborted();
        if (signal.aborted) throw turnTimeout(TURN_TIMEOUT_MS);
        throw error instanceof CodexRefusal ? requestRefused(error) : error;
      } finally {
        appServer.session.release();
      }
    },
  };
}

/** Runs the turn. If the conversation is too long for the model, repeats it in a new thread with fewer messages. */
async function* runTrimming(
  deps: ThreadDeps,
  appServer: AppServer,
  turn: TurnInput,
  { signal, record, ahead }: RunOptions & { readonly ahead: Promise<PackedThread | undefined> | undefined },
): AsyncGenerator<EngineEvent, Outcome, void> {
  const sent = createSentTurn(turn);
  let usage = NO_USAGE;
  for (let isFirst = true; ; isFirst = false) {
    const thread = await openThread(deps, appServer, sent.current, signal, isFirst ? { ahead } : { isNew: true });
    const events = runTurn(deps, appServer, thread, sent.current, { signal, record });
    const before = usage;
    let hasBegun = false;
    try {
      for (;;) {
        const step = await events.next();
        if (step.done) return { ...step.value, usage: addUsage(before, step.value.usage) };
        hasBegun ||= !('TokenCount' in step.value || 'StreamError' in step.value);
        if ('TokenCount' in step.value) usage = addUsage(before, step.value.TokenCount);
        yield 'TokenCount' in step.value ? { TokenCount: usage } : step.value;
      }
    } catch (error) {
      if (!(error instanceof ContextOverflow)) throw error;
      if (hasBegun) throw error.inAnswer();
      yield sent.trim(error);
    } finally {
      await events.return({ content: '', usage: NO_USAGE, model: turn.model });
    }
  }
}
