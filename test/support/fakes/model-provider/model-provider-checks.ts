// Serves the endpoints of the fake provider with which the gateway checks a token: a list of models, and the usage of a
// ChatGPT plan. Records the callers.
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';

export interface SeenCheck {
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

/** `hang`: never answers; `reset`: cuts the connection. */
export type CheckAnswer =
  | 'hang'
  | 'reset'
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string };

export interface Checks {
  /** Oldest first. */
  readonly seen: SeenCheck[];
  /** How checks are answered from now on; without an argument again with 200. */
  answer(how?: CheckAnswer | ((check: SeenCheck) => CheckAnswer)): void;
  /** False when the request is none of these. */
  handle(request: IncomingMessage, response: ServerResponse): boolean;
}

const PATH = /\/v1(?:beta)?\/models(?:\?|$)|\/wham\/usage$/;
const GOOD: CheckAnswer = { status: 200, body: '{"data":[],"models":[]}' };
const SEEN_MAX = 1_000;

export function createChecks(): Checks {
  const seen: SeenCheck[] = [];
  let behaviour: (check: SeenCheck) => CheckAnswer = () => GOOD;
  return {
    seen,
    answer(how = GOOD) {
      behaviour = typeof how === 'function' ? how : () => how;
    },
    handle(request, response) {
      const path = request.url ?? '/';
      if (request.method !== 'GET' || !PATH.test(path)) return false;
      const check = { path, headers: request.headers };
      seen.push(check);
      if (seen.length > SEEN_MAX) seen.shift();
      const answer = behaviour(check);
      if (answer === 'reset') request.socket.resetAndDestroy();
      else if (answer !== 'hang') {
        response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers });
        response.end(answer.body);
      }
      return true;
    },
  };
}
