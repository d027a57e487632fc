// One shell as the page holds it: named, so that a reload or a cut finds it again; input gathered, since every message
// counts against the key's rate windows.

import { randomId } from '../../shared/client/random-id.ts';
import { METHODS, NOTIFICATIONS } from '../../shared/protocol.ts';
import type { Client } from './client.ts';
import { type Failure, toFailure } from './failure.ts';
import { roll } from './limits.ts';
import { Anything, Terminal, TerminalExit, TerminalOutput } from './results.ts';
import { createValue, type Value } from './view.ts';

/** What shows the output. */
export interface Screen {
  readonly size: { readonly cols: number; readonly rows: number };
  write(text: string): void;
  reset(): void;
  focus(): void;
}

export interface TerminalState {
  readonly phase: 'starting' | 'running' | 'ended' | 'failed';
  readonly exitCode: number | null;
  /** Keys are sent less often than they are typed. */
  readonly paced: boolean;
  readonly failure?: Failure | undefined;
}

export interface TerminalSession {
  readonly state: Value<TerminalState>;
  start(screen: Screen): Promise<void>;
  restart(): Promise<void>;
  input(data: string): void;
  resize(): void;
  end(): Promise<void>;
  /** Stops watching; the shell goes on for a while and can be found again. */
  leave(): void;
}

const NAME = 'gateway-terminal';
const GATHER_MIN_MS = 25;
const RESIZE_MS = 400;
/** As much as interactive.input takes. */
const INPUT_CHARS_MAX = 64 << 10;
const WAITING_CHARS_MAX = 1 << 20;

export function createTerminalSession(client: Client): TerminalSession {
  const state = createValue<TerminalState>({ phase: 'starting', exitCode: null, paced: false });
  const change = (part: Partial<TerminalState>): void => state.set({ ...state.current, ...part });
  let sessionId = sessionStorage.getItem(NAME) ?? newName();
  let screen: Screen | undefined;
  let lastSeq = 0;
  let waiting = '';
  let sending: ReturnType<typeof setTimeout> | undefined;
  let resizing: ReturnType<typeof setTimeout> | undefined;
  let left = false;

  const stopListening = client.listen((method, params) => {
    if (method === NOTIFICATIONS.terminalOutput) {
      const output = TerminalOutput.safeParse(params);
      if (!output.success || output.data.session_id !== sessionId || output.data.seq <= lastSeq) return;
      lastSeq = output.data.seq;
      screen?.write(output.data.data);
    } else if (method === NOTIFICATIONS.terminalExit) {
      const exit = TerminalExit.safeParse(params);
      if (!exit.success || exit.data.session_id !== sessionId) return;
      change({ phase: 'ended', exitCode: exit.data.exit_code });
    }
  });
  const unwatch = client.link.subscribe(() => {
    if (client.link.current === 'open' && state.current.phase !== 'ended') void open();
  });

  /** Starts the shell, or reconnects to it and replays the missed output. */
  async function open(): Promise<void> {
    if (screen === undefined || left) return;
    try {
      await client.settled();
      const params = { session_id: sessionId, ...screen.size, after_seq: lastSeq };
      const { resumed } = await client.attached(Terminal, METHODS.terminalStart, params);
      change({ phase: 'running', failure: undefined });
      if (resumed) resize();
      screen.focus();
    } catch (error) {
      const failure = toFailure(error);
      if (failure.reason !== 'connection_lost') change({ phase: 'failed', failure });
    }
  }

  function input(data: string): void {
    if (state.current.phase !== 'running' || waiting.length + data.length > WAITING_CHARS_MAX) return;
    waiting += data;
    sending ??= setTimeout(() => void flush(), pace());
  }

  async function flush(): Promise<void> {
    const data = waiting.slice(0, INPUT_CHARS_MAX);
    waiting = waiting.slice(data.length);
    try {
      await client.attached(Anything, METHODS.terminalInput, { session_id: sessionId, data });
    } catch (error) {
      waiting = '';
      change({ failure: toFailure(error) });
    }
    sending = waiting === '' ? undefined : setTimeout(() => void flush(), pace());
  }

  /** While more than half of a window is left, at once; below that, spread over what remains of it. */
  function pace(): number {
    const nowMs = Date.now();
    let delayMs = GATHER_MIN_MS;
    for (const known of client.limits.windows.current) {
      const { remaining, limit, resetMs, seconds } = roll(known, nowMs);
      if (seconds > 60 || remaining > limit / 2) continue;
      delayMs = Math.max(delayMs, (resetMs - nowMs) / Math.max(1, remaining - limit / 10));
    }
    change({ paced: delayMs > 4 * GATHER_MIN_MS });
    return delayMs;
  }

  function resize(): void {
    clearTimeout(resizing);
    resizing = setTimeout(() => {
      if (screen === undefined || state.current.phase !== 'running') return;
      client.attached(Anything, METHODS.terminalResize, { session_id: sessionId, ...screen.size }).catch(() => {});
    }, RESIZE_MS);
  }

  return {
    state,
    async start(on) {
      screen = on;
      await open();
    },
    async restart() {
      if (state.current.phase === 'ended') sessionId = newName();
      lastSeq = 0;
      screen?.reset();
      change({ phase: 'starting', exitCode: null, failure: undefined });
      await open();
    },
    input,
    resize,
    async end() {
      try {
        await client.attached(Anything, METHODS.terminalClose, { session_id: sessionId });
      } catch (error) {
        change({ failure: toFailure(error) });
      }
    },
    leave() {
      left = true;
      clearTimeout(sending);
      clearTimeout(resizing);
      stopListening();
      unwatch();
    },
  };
}

function newName(): string {
  const name = `tty-${randomId().slice(0, 12)}`;
  sessionStorage.setItem(NAME, name);
  return name;
}
