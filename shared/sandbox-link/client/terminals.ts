// The Terminals port over a link. Terminals belong to the sandbox service, so they continue after a link is over, and a
// watcher continues at the same position over the next link.
import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import { RpcError } from '../../errors.ts';
import type { TerminalFacts, TerminalHandle, TerminalRequest, Terminals } from '../../terminals/terminals.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import type { Link } from '../link/link.ts';
import { Exit, TerminalFacts as FactsAnswer, INPUT_CHARS_MAX, Nothing, TerminalStartAnswer } from '../messages.ts';
import { call, openLink } from './calls.ts';
import { watchOver } from './watch.ts';

const WHAT = 'The call';

export interface RemoteTerminalsDeps {
  readonly keeper: LinkKeeper;
  /** Called with each terminal that this process has started. */
  onStart(handle: TerminalHandle, request: TerminalRequest): void;
}

export function createRemoteTerminals({ keeper, onStart }: RemoteTerminalsDeps): Terminals {
  const starts = createStartQueue();
  let isDraining = false;

  async function request<T>(method: string, handle: TerminalHandle, params: object, answer: z.ZodType<T>): Promise<T> {
    await starts.settled(handle);
    return onItsLink(keeper, (link) => call(link, method, { ...toParams(handle), ...params }, { answer, what: WHAT }));
  }

  async function start(handle: TerminalHandle, request: TerminalRequest) {
    const started = await startOnItsLink(keeper, handle, request);
    if (!started.resumed) onStart(handle, request);
    return started;
  }

  return {
    async start(handle, request) {
      if (isDraining) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
      return starts.run(handle, () => start(handle, request));
    },

    async input(handle, data) {
      const parts: Promise<TerminalFacts>[] = [];
      for (let index = 0; index < data.length; index += INPUT_CHARS_MAX) {
        const part = { data: data.slice(index, index + INPUT_CHARS_MAX) };
        parts.push(request('terminal.input', handle, part, FactsAnswer));
      }
      const facts = await Promise.all(parts);
      return facts.at(-1) ?? Promise.reject(new RpcError('invalid_params', { message: 'no input' }));
    },

    resize: (handle, size) => request('terminal.resize', handle, size, FactsAnswer),

    watch: (handle, watcher, afterSeq) =>
      watchOver({
        watcher,
        afterSeq,
        async open(seq) {
          await starts.settled(handle);
          return onItsLink(keeper, (link) => openOutput(link, handle, seq));
        },
      }),

    async close(handle) {
      const { exit_code: exitCode } = await request('terminal.close', handle, {}, Exit);
      return { exitCode };
    },

    /** The terminals continue: other gateway processes serve them, or they end when they have no watchers. */
    async drain() {
      isDraining = true;
    },
  };
}

interface StartQueue {
  /** Concurrent starts of a terminal run in order: the first one may start the terminal, the next ones find it. */
  run<T>(handle: TerminalHandle, start: () => Promise<T>): Promise<T>;
  /** Waits for a start of the terminal that is in progress. */
  settled(handle: TerminalHandle): Promise<void>;
}

function createStartQueue(): StartQueue {
  const starting = new Map<string, Promise<unknown>>();
  return {
    async run(handle, start) {
      const id = idOf(handle);
      const begun =
        starting
          .get(id)
          ?.catch(() => {})
          .then(start) ?? start();
      starting.set(id, begun);
      try {
        return await begun;
      } finally {
        if (starting.get(id) === begun) starting.delete(id);
      }
    },
    async settled(handle) {
      await starting.get(idOf(handle))?.catch(() => {});
    },
  };
}

/** Returns the running terminal, also of an older boot, or starts one over the present link. */
async function startOnItsLink(keeper: LinkKeeper, handle: TerminalHandle, request: TerminalRequest) {
  const link = await openLink(keeper);
  for (const older of olderLinks(keeper)) {
    const running = await startOver(older, handle, request, true).catch(ignoreMissing);
    if (running !== undefined) return running;
  }
  return startOver(link, handle, request, false);
}

async function startOver(link: Link, handle: TerminalHandle, request: TerminalRequest, onlyRunning: boolean) {
  const { requestId, shell, cwd, env, cols, rows } = request;
  const spec = link.openStream();
  try {
    spec.end(JSON.stringify({ request_id: requestId, shell, cwd, env, cols, rows }));
    spec.resume();
    const only = onlyRunning && { only_running: true };
    const params = { ...toParams(handle), start_id: randomUUID(), spec: spec.id, ...only };
    return await call(link, 'terminal.start', params, { answer: TerminalStartAnswer, what: WHAT });
  } finally {
    spec.destroy();
  }
}

/** The stream of a terminal's output after piece `seq`. */
async function openOutput(link: Link, handle: TerminalHandle, seq: number) {
  const output = link.openStream();
  output.end();
  const params = { ...toParams(handle), after_seq: seq, output: output.id };
  try {
    await call(link, 'terminal.watch', params, { answer: Nothing, what: WHAT });
    return output;
  } catch (error) {
    output.destroy();
    throw error;
  }
}

/** Links to older boots of the service, where terminals that were started there continue. */
function olderLinks({ draining }: LinkKeeper): readonly Link[] {
  return draining.filter(({ connected }) => connected);
}

/** Runs `work` with the present link and, when the terminal is not there, with those to older boots. */
async function onItsLink<T>(keeper: LinkKeeper, work: (link: Link) => Promise<T>): Promise<T> {
  let missing: unknown;
  for (const link of [await openLink(keeper), ...olderLinks(keeper)]) {
    try {
      return await work(link);
    } catch (error) {
      if (!isMissing(error)) throw error;
      missing ??= error;
    }
  }
  throw missing;
}

/** A boot of an older version refuses `only_running` as unknown, and a request that is invalid anyway. */
function ignoreMissing(error: unknown): undefined {
  if (!isMissing(error) && !(error instanceof RpcError && error.reason === 'invalid_params')) throw error;
}

function isMissing(error: unknown): boolean {
  return error instanceof RpcError && error.reason === 'not_found';
}

function toParams({ owner, sessionId }: TerminalHandle) {
  return { owner, session: sessionId };
}

function idOf({ owner, sessionId }: TerminalHandle): string {
  return JSON.stringify([owner, sessionId]);
}
