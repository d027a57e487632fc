// A client with one terminal over WebSocket: the benches of terminals type into it and read from it.
import { once } from 'node:events';
import { WebSocket } from 'ws';

export interface BenchTerminal {
  /** Sends input without waiting for its answer. */
  send(data: string): void;
  /** Forgets the output so far. */
  clear(): void;
  /** Characters of output since the start. */
  readonly received: number;
  /** Resolves when the output since `clear` contains this text. */
  until(text: string): Promise<void>;
  close(): Promise<void>;
}

/** Sends one letter and resolves when its echo arrived. */
export type Type = (letter: string) => Promise<void>;

const SESSION = 'bench';
/** Characters of output that are kept to look for a text: longer than each text, with a piece of output. */
const KEPT_CHARS = 64 << 10;

export async function openTerminal(url: string, key: string): Promise<BenchTerminal> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, { headers: { 'X-API-Key': key } });
  await once(socket, 'open');
  let text = '';
  let received = 0;
  let failed: Error | undefined;
  let onOutput = (): void => {};
  socket.on('message', (data) => {
    const { method, params, error } = JSON.parse(String(data));
    if (error !== undefined) failed = new Error(JSON.stringify(error));
    else if (method !== 'interactive.output') return;
    else {
      received += params.data.length;
      text = (text + params.data).slice(-KEPT_CHARS);
    }
    onOutput();
  });
  let id = 0;
  const call = (method: string, params: object): void =>
    socket.send(JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params: { session_id: SESSION, ...params } }));
  call('interactive.start', { shell: '/bin/sh' });
  return {
    send: (data) => call('interactive.input', { data }),
    clear() {
      text = '';
    },
    get received() {
      return received;
    },
    until: (wanted) =>
      new Promise((resolve, reject) => {
        onOutput = () => {
          if (failed !== undefined) reject(failed);
          else if (text.includes(wanted)) resolve();
        };
        onOutput();
      }),
    async close() {
      call('interactive.close', {});
      socket.close();
      await once(socket, 'close');
    },
  };
}

/** Lets the terminal echo what is typed and resolves with what types it. */
export async function toEcho(terminal: BenchTerminal): Promise<Type> {
  // The terminal echoes, not `cat`, which reads a line only at Enter. The length of a line is bounded, so every 1000th
  // keystroke ends one.
  terminal.send("echo rea''dy; exec cat >/dev/null\r");
  await terminal.until('ready');
  let typed = 0;
  return async (letter) => {
    terminal.clear();
    terminal.send(++typed % 1000 === 0 ? `\r${letter}` : letter);
    await terminal.until(letter);
  };
}
