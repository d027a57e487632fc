// One shell of the page. It has a name, so that it is opened again after a reload or a lost connection. Input that is
// typed within a few milliseconds is sent in one call.
import type { Notification } from '../../../shared/client/events.ts';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { randomId } from '../../../shared/client/random-id.ts';
import { METHODS, NOTIFICATIONS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import { Anything, Terminal, TerminalExit, TerminalOutput } from '../gateway/results.ts';
import { createValue, type Value } from '../view.ts';

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
  readonly failure?: GatewayError | undefined;
}

const NAME = 'gateway-terminal';
/** Keeps one page below the rate up to which input costs no call. */
const GATHER_MS = 25;
const RESIZE_MS = 400;
/** The most that interactive.input accepts. */
const INPUT_CHARS_MAX = 64 << 10;
const WAITING_CHARS_MAX = 1 << 20;

export class TerminalSession {
  readonly state: Value<TerminalState> = createValue<TerminalState>({
    phase: 'starting',
    exitCode: null,
  });
  readonly #client: Client;
  readonly #left = new AbortController();
  readonly #unwatch: readonly (() => void)[];
  #sessionId = sessionStorage.getItem(NAME) ?? newName();
  #screen: Screen | undefined;
  #lastSeq = 0;
  #waiting = '';
  #sending: ReturnType<typeof setTimeout> | undefined;
  #resizing: ReturnType<typeof setTimeout> | undefined;

  constructor(client: Client) {
    this.#client = client;
    this.#unwatch = [
      client.listen((notification) => this.#receive(notification)),
      client.link.subscribe(() => {
        if (client.link.current === 'open' && this.state.current.phase !== 'ended') void this.#open();
      }),
    ];
  }

  async start(screen: Screen): Promise<void> {
    this.#screen = screen;
    await this.#open();
  }

  async restart(): Promise<void> {
    if (this.state.current.phase === 'ended') this.#sessionId = newName();
    this.#lastSeq = 0;
    this.#screen?.reset();
    this.#change({ phase: 'starting', exitCode: null, failure: undefined });
    await this.#open();
  }

  input(data: string): void {
    if (this.state.current.phase !== 'running' || this.#waiting.length + data.length > WAITING_CHARS_MAX) return;
    this.#waiting += data;
    this.#sending ??= setTimeout(() => void this.#flush(), GATHER_MS);
  }

  resize(): void {
    clearTimeout(this.#resizing);
    this.#resizing = setTimeout(() => {
      if (this.#screen === undefined || this.state.current.phase !== 'running') return;
      const params = { session_id: this.#sessionId, ...this.#screen.size };
      this.#client.attached(Anything, METHODS.terminalResize, params).catch(() => {});
    }, RESIZE_MS);
  }

  async end(): Promise<void> {
    try {
      await this.#client.attached(Anything, METHODS.terminalClose, { session_id: this.#sessionId });
    } catch (error) {
      this.#change({ failure: toFailure(error) });
    }
  }

  /** Stops watching; the shell continues for a while and can be opened again by its name. */
  leave(): void {
    this.#left.abort();
    clearTimeout(this.#sending);
    clearTimeout(this.#resizing);
    for (const stop of this.#unwatch) stop();
  }

  #receive({ method, params }: Notification): void {
    if (method === NOTIFICATIONS.terminalOutput) {
      const output = TerminalOutput.safeParse(params);
      if (!output.success || output.data.session_id !== this.#sessionId || output.data.seq <= this.#lastSeq) return;
      this.#lastSeq = output.data.seq;
      this.#screen?.write(output.data.data);
    } else if (method === NOTIFICATIONS.terminalExit) {
      const exit = TerminalExit.safeParse(params);
      if (!exit.success || exit.data.session_id !== this.#sessionId) return;
      this.#change({ phase: 'ended', exitCode: exit.data.exit_code });
    }
  }

  /** Starts the shell, or reconnects to it and replays the missed output. */
  async #open(): Promise<void> {
    if (this.#screen === undefined || this.#left.signal.aborted) return;
    try {
      await this.#client.settled(this.#left.signal);
      const params = { session_id: this.#sessionId, ...this.#screen.size, after_seq: this.#lastSeq };
      const { resumed } = await this.#client.attached(Terminal, METHODS.terminalStart, params);
      this.#change({ phase: 'running', failure: undefined });
      if (resumed) this.resize();
      this.#screen.focus();
    } catch (error) {
      const failure = toFailure(error);
      // After a cut the next connection opens it again.
      if (failure.reason !== 'network') this.#change({ phase: 'failed', failure });
    }
  }

  async #flush(): Promise<void> {
    const data = this.#waiting.slice(0, INPUT_CHARS_MAX);
    this.#waiting = this.#waiting.slice(data.length);
    try {
      await this.#client.attached(Anything, METHODS.terminalInput, { session_id: this.#sessionId, data });
    } catch (error) {
      this.#waiting = '';
      this.#change({ failure: toFailure(error) });
    }
    this.#sending = this.#waiting === '' ? undefined : setTimeout(() => void this.#flush(), GATHER_MS);
  }

  #change(part: Partial<TerminalState>): void {
    this.state.set({ ...this.state.current, ...part });
  }
}

function newName(): string {
  const name = `tty-${randomId().slice(0, 12)}`;
  sessionStorage.setItem(NAME, name);
  return name;
}
