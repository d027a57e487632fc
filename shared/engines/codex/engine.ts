// The engine `codex/...`: turns of the Codex agent, by `codex app-server` in the sandbox of the key. It throws where
// there is no sandbox. The conversation's lease ensures that a thread has one turn at a time.
import { deadline } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import type { EngineEvent } from '../../turn-events.ts';
import { NO_USAGE } from '../../usage.ts';
import { ContextOverflow } from '../context-overflow.ts';
import type { Engine, EngineState, Outcome, TurnInput } from '../engine.ts';
import { toEvent, trimTurn } from '../overflow.ts';
import type { PackedThread } from './rollout.ts';
import { type AppServer, startAppServer } from './server/app-server.ts';
import type { CodexBinary } from './server/binary.ts';
import { CodexRefusal } from './server/client.ts';
import type { ConfigOptions } from './server/config-toml.ts';
import type { Launcher } from './server/launcher.ts';
import { createPool, type PoolLimits } from './server/pool.ts';
import { type Relay, startRelay } from './server/relay.ts';
import { makeTemplate, type Template } from './template.ts';
import { loadThread, openThread, type ThreadDeps } from './threads.ts';
import { runTurn } from './turn.ts';
import { requestRefused, turnTimeout } from './turn-errors.ts';

export interface CodexOptions {
  readonly launcher: Launcher;
  readonly binary: CodexBinary;
  /** Directory of the machine for the app-servers' own files; deleted with them. */
  readonly directory: string;
  /** Base URLs of the Responses API, by kind of credentials. */
  readonly baseUrls: ConfigOptions['baseUrls'];
  readonly proxy?: Parameters<typeof startRelay>[1] | undefined;
  /** The deployment's own key; undefined: only callers' own credentials are used. */
  readonly apiKey: string | undefined;
  readonly state: EngineState;
  readonly limits?: PoolLimits;
  warn(message: string, error: unknown): void;
}

const TURN_TIMEOUT_MS = 900_000;
/** After this many steps, all of the conversation but the prompt is left out. */
const TRIMS_MAX = 12;

export interface CodexEngine extends Engine {
  /** Prepares the files that every app-server needs at its start. Never throws; turns do not wait for it. */
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
    async (keyId) => startAppServer({ ...(await settings()), keyId, fill: template?.copyTo }),
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
      // A new app-server takes longer to start than a saved thread to be read; a running one most likely has the
      // thread.
      const isAhead = turn.messages.length > 1 && !pool.has(turn.keyId);
      const ahead = isAhead ? loadThread(options, turn.conversationId, signal) : undefined;
      ahead?.catch(() => undefined);
      const { appServer, release } = await pool.borrow(turn.keyId, signal);
      try {
        return yield* runTrimming(options, appServer, turn, { signal, ahead });
      } catch (error) {
        given.throwIfAborted();
        if (signal.aborted) throw turnTimeout(TURN_TIMEOUT_MS);
        throw error instanceof CodexRefusal ? requestRefused(error) : error;
      } finally {
        release();
      }
    },
  };
}

/** Runs the turn; whenever the conversation is too long for the model, again in a new thread with fewer messages. */
async function* runTrimming(
  deps: ThreadDeps,
  appServer: AppServer,
  turn: TurnInput,
  { signal, ahead }: { readonly signal: AbortSignal; readonly ahead: Promise<PackedThread | undefined> | undefined },
): AsyncGenerator<EngineEvent, Outcome, void> {
  let sent = turn;
  for (let trims = 1; ; trims++) {
    const thread = await openThread(deps, appServer, sent, signal, trims === 1 ? { ahead } : { isNew: true });
    const events = runTurn(deps, appServer, thread, sent, signal);
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
