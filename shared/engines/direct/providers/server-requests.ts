// Fits the requests of the SDK to servers with the wire of OpenAI that support less of it than OpenAI's own.

import type { RpcError } from '../../../errors.ts';
import { isObject, type JsonObject } from '../../../json/json-object.ts';
import type { Fetch } from './provider-fetch.ts';

/** Members of a chat request that some servers refuse, and without which an answer is nearly the same. */
const EXTRAS = ['stream_options', 'reasoning_content'] as const;
const REFUSED =
  /unsupported|not supported|not permitted|not allowed|unknown|unrecognized|unexpected|extra|additional|invalid/i;

/** What one server has refused, remembered for its next requests. */
export interface ChatExtras {
  /** The request without what the server has refused. */
  fit(body: Record<string, unknown>): Record<string, unknown>;
  /**
   * Leaves out what the server refuses with this error; false if it refuses something else. `leftOut`: what was left
   * out because of earlier errors of the turn. Another turn may have left it out since the request was made.
   */
  leaveOut(error: RpcError, leftOut: Set<string>): boolean;
}

export function createChatExtras(): ChatExtras {
  const refused = new Set<string>();
  return {
    fit(body) {
      if (refused.size === 0) return body;
      const messages: readonly unknown[] = Array.isArray(body.messages) ? body.messages : [];
      return {
        ...without(body, refused),
        messages: messages.map((one) => (isObject(one) ? without(one, refused) : one)),
      };
    },
    leaveOut({ data, message }, leftOut) {
      if ((data.status !== 400 && data.status !== 422) || !REFUSED.test(message)) return false;
      const extra = EXTRAS.find((name) => message.includes(name) && !leftOut.has(name));
      if (extra === undefined) return false;
      refused.add(extra);
      leftOut.add(extra);
      return true;
    },
  };
}

/**
 * Gives each message of a Responses request its type, which OpenAI makes optional and llama.cpp requires of those of
 * the assistant.
 */
export function withItemTypes(fetch: Fetch): Fetch {
  return (input, init) =>
    fetch(input, typeof init?.body === 'string' ? { ...init, body: completeItems(init.body) } : init);
}

function completeItems(body: string): string {
  const request: unknown = JSON.parse(body);
  if (!isObject(request) || !Array.isArray(request.input)) return body;
  const input = request.input.map((item: unknown) =>
    isObject(item) && typeof item.role === 'string' && item.type === undefined ? { type: 'message', ...item } : item,
  );
  return JSON.stringify({ ...request, input });
}

function without(value: JsonObject, names: ReadonlySet<string>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([name]) => !names.has(name)));
}
