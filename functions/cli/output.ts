// Output of the command line: text and JSON on stdout, messages and progress on stderr. A progress line is written only
// to a terminal, and is erased.
import type { WriteStream } from 'node:tty';

type Out = Pick<WriteStream, 'write'> & { readonly isTTY?: boolean };

/**
 * On a terminal, all control characters except tab and line feed are removed, because the output of a model could
 * otherwise control the terminal. Output to a file is unchanged.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is to be removed.
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

export function printable(text: string): string {
  return text.replace(CONTROL, '');
}

/** Writes text as it arrives; `end` adds a line break if it has none. */
export function createTextWriter(out: Out): { write(text: string): void; end(): void } {
  let last = '\n';
  return {
    write(text) {
      if (text === '') return;
      out.write(out.isTTY === true ? printable(text) : text);
      last = text;
    },
    end() {
      if (!last.endsWith('\n')) out.write('\n');
      last = '\n';
    },
  };
}

export interface Progress {
  /** Shows the current activity. */
  show(what: string): void;
  /** Removes the line. */
  end(): void;
}

const FRAMES = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏';
const FRAME_MS = 100;

/** Shows a progress line with the elapsed seconds, if `out` is a terminal. */
export function startProgress(out: Out): Progress {
  if (out.isTTY !== true) return { show() {}, end() {} };
  let ended = false;
  const startedMs = Date.now();
  let what = 'waiting';
  let frame = 0;
  const timer = setInterval(() => {
    frame = (frame + 1) % FRAMES.length;
    const seconds = Math.floor((Date.now() - startedMs) / 1_000);
    out.write(`\r\x1b[K${FRAMES[frame]} ${seconds} s  ${printable(what).slice(0, 60)}`);
  }, FRAME_MS);
  return {
    show(next) {
      what = next.replaceAll('\n', ' ');
    },
    end() {
      if (ended) return;
      ended = true;
      clearInterval(timer);
      out.write('\r\x1b[K');
    },
  };
}
