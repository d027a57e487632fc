// Reads the body of a response, within bounds: a whole text, or Server-Sent Events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
import { GatewayError, networkError } from '../gateway-error.ts';
import type { Timer } from './timer.ts';

/** Most characters of one response or one event; those of the gateway are smaller than 16 MiB. */
const CHARS_MAX = 64 << 20;

/** The body as text. */
export async function readText(response: Response, signal: AbortSignal): Promise<string> {
  let text = '';
  for await (const piece of readPieces(response, signal)) {
    text += piece;
    if (text.length > CHARS_MAX) throw tooLarge();
  }
  return text;
}

/** The data of each event; comments and ids are skipped. Every received chunk restarts `watch`. */
export async function* readEvents(response: Response, watch: Timer): AsyncGenerator<string, void, void> {
  let rest = '';
  let data: string[] = [];
  let size = 0;
  for await (const piece of readPieces(response, watch.signal)) {
    watch.restart();
    rest += piece;
    if (rest.length + size > CHARS_MAX) throw tooLarge();
    // A long line is searched once, when it ends.
    if (!/[\r\n]/.test(piece)) continue;
    // A carriage return at the end may be half of a line break.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n');
        data = [];
        size = 0;
      } else if (line.startsWith('data:')) {
        data.push(line.slice(line[5] === ' ' ? 6 : 5));
        size += line.length;
      }
    }
  }
}

/** Leaving early cancels the body, and with it the connection. */
async function* readPieces(response: Response, signal: AbortSignal): AsyncGenerator<string, void, void> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield decoder.decode(value, { stream: true });
    }
    yield decoder.decode();
  } catch (cause) {
    signal.throwIfAborted();
    throw cause instanceof GatewayError ? cause : networkError('the connection was cut', cause);
  } finally {
    // Has no effect on a body that has ended or failed.
    void reader.cancel().catch(() => {});
  }
}

function tooLarge(): GatewayError {
  return new GatewayError({ reason: 'bad_response', message: `the answer is larger than ${CHARS_MAX} characters` });
}
