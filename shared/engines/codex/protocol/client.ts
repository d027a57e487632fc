// JSON-RPC over the stdio of one `codex app-server` (newline-delimited, without the `jsonrpc` member). It sends only
// the methods of protocol.ts, answers the server's requests with fixed refusals, and passes each notification to the
// listener of its thread.

import type { ZodType } from 'zod';
import { settledWithin } from '../../../async.ts';
import type { CodexSession } from '../../../codex-host/codex-host.ts';
import { RpcError } from '../../../errors.ts';
import { memberOf } from '../../../json/json-object.ts';
import { parseMarked } from '../../../rpc/json/exact-json.ts';
import { isRead, toNotification } from './notifications.ts';
import { createPendingRequests } from './pending-requests.ts';
import {
  ANSWERS,
  type ClientMethod,
  type ClientRequests,
  type ClientResults,
  type Notification,
  type NotificationMethod,
  RESULTS,
  type ToolAnswer,
  ToolCall,
} from './protocol.ts';

/** A notification may carry the whole output of a command, and an answer a whole thread. */
const LINE_CHARS_MAX = 32 << 20;
const STDERR_CHARS_MAX = 2_000;
const EXIT_MS = 1_000;

/** Codex refused a request. */
export class CodexRefusal extends Error {
  readonly code: number;
  constructor(method: string, code: number, message: string) {
    super(`codex ${method}: ${message}`);
    this.name = 'CodexRefusal';
    this.code = code;
  }
}

export interface CodexClient {
  /**
   * Throws CodexRefusal, RpcError `unavailable` when the process has ended, `upstream_timeout` after 30 s, or the
   * signal's reason.
   */
  request<M extends ClientMethod>(
    method: M,
    params: ClientRequests[M],
    signal?: AbortSignal,
  ): Promise<ClientResults[M]>;
  /** Notifications, tool calls and the end of one thread, until the returned function is called. */
  listen(threadId: string, listener: ThreadListener): () => void;
  /** Resolves when the process has ended or has sent an unreadable line. */
  readonly closed: Promise<ClosedCodex>;
}

export interface ClosedCodex {
  readonly stderrTail: string;
  /** What ended it, when it was not Codex. */
  readonly failure?: Error | undefined;
}

/** The same table, typed so that a method's schema yields its result. */
const SCHEMAS: { readonly [M in ClientMethod]: ZodType<ClientResults[M]> } = RESULTS;

export interface ThreadListener {
  /** `chars`: the length of its line. */
  notified(notification: Notification, chars: number): void;
  /** Rejections, and calls that are not answered, are answered as failures. */
  called?: ((call: ToolCall) => Promise<ToolAnswer | undefined>) | undefined;
  /** Called when the promise `closed` resolves. A handler of that promise would stay in memory until then. */
  closed(closed: ClosedCodex): void;
}

export function createCodexClient(child: Pick<CodexSession, 'stdin' | 'stdout' | 'stderr' | 'exited'>): CodexClient {
  const requests = createPendingRequests();
  const listeners = new Map<string, ThreadListener>();
  const { promise: closed, resolve: close } = Promise.withResolvers<ClosedCodex>();
  let isOpen = true;
  let stderrTail = '';

  const end = (why: string, failure?: Error): void => {
    if (!isOpen) return;
    isOpen = false;
    const how = { stderrTail: why, failure };
    close(how);
    for (const listener of listeners.values()) listener.closed(how);
    requests.failAll(failure ?? ended());
  };
  const splitLines = createLineSplitter((line) => {
    if (isOpen && line !== '') receive(line);
  });
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text: string) => {
    if (splitLines(text) > LINE_CHARS_MAX) end('a line is too long');
  });
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    stderrTail = (stderrTail + text).slice(-STDERR_CHARS_MAX);
  });
  void child.exited.then(({ failure }) => end(stderrTail, failure));
  // Usually the end of the process follows, and its error contains more than that of the stream.
  child.stdin.on('error', () => void settledWithin(EXIT_MS, child.exited).then(() => end(stderrTail)));

  return {
    closed,
    listen(threadId, listener) {
      listeners.set(threadId, listener);
      return () => {
        if (listeners.get(threadId) === listener) listeners.delete(threadId);
      };
    },
    async request(method, params, signal) {
      signal?.throwIfAborted();
      if (!isOpen) throw ended();
      const answer = await requests.send(method, signal, (id) => write({ id, method, params }));
      if (answer.error !== undefined) throw toRefusal(method, answer.error);
      return read(method, answer.result);
    },
  };

  function write(message: object): void {
    if (isOpen) child.stdin.write(`${JSON.stringify(message)}\n`);
  }

  function receive(line: string): void {
    let message: unknown;
    try {
      // The arguments of a tool call keep every digit; no other message has numbers of a caller.
      message = line.includes('"item/tool/call"') ? parseMarked(line) : JSON.parse(line);
    } catch {
      end('codex sent a line that is not JSON');
      return;
    }
    const method = memberOf(message, 'method');
    const id = memberOf(message, 'id');
    if (typeof method !== 'string') {
      requests.settle(id, { result: memberOf(message, 'result'), error: memberOf(message, 'error') });
    } else if (id !== undefined) {
      if (method === 'item/tool/call') void callTool(id, memberOf(message, 'params'));
      else if (isAnswered(method)) write({ id, result: ANSWERS[method] });
      else write({ id, error: { code: -32601, message: 'not supported by this client' } });
    } else if (isRead(method)) {
      notify(method, memberOf(message, 'params'), line.length);
    }
  }

  async function callTool(id: unknown, params: unknown): Promise<void> {
    const { data: call } = ToolCall.safeParse(params);
    const called = call && listeners.get(call.threadId)?.called;
    const answer = call && (await called?.(call).catch(() => undefined));
    write({ id, result: answer ?? ANSWERS['item/tool/call'] });
  }

  function notify(method: NotificationMethod, params: unknown, chars: number): void {
    const parsed = toNotification(method, params);
    if (parsed !== undefined) listeners.get(parsed.params.threadId)?.notified(parsed, chars);
  }
}

/** Passes on each complete line; returns the characters of the incomplete one. Searches each character once. */
function createLineSplitter(onLine: (line: string) => void): (text: string) => number {
  let held = '';
  return (text) => {
    let start = 0;
    for (let newline = text.indexOf('\n'); newline !== -1; newline = text.indexOf('\n', start)) {
      onLine(held + text.slice(start, newline));
      held = '';
      start = newline + 1;
    }
    held += text.slice(start);
    return held.length;
  };
}

function isAnswered(method: string): method is keyof typeof ANSWERS {
  return Object.hasOwn(ANSWERS, method);
}

function read<M extends ClientMethod>(method: M, result: unknown): ClientResults[M] {
  const parsed = SCHEMAS[method].safeParse(result);
  if (parsed.success) return parsed.data;
  throw new RpcError('internal', { cause: new Error(`codex ${method} answered in another form`) });
}

function toRefusal(method: string, error: unknown): CodexRefusal {
  const code = memberOf(error, 'code');
  return new CodexRefusal(
    method,
    typeof code === 'number' ? code : 0,
    String(memberOf(error, 'message')).slice(0, 500),
  );
}

function ended(): RpcError {
  return new RpcError('unavailable', { message: 'Codex has ended', retryAfterMs: 1_000 });
}
