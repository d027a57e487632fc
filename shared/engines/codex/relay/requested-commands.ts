// The commands that the model has requested and that Codex has not reported as started. Codex 0.169 runs the process of
// a command for up to some hundred milliseconds before it reports the command and can end it. An interrupt in this time
// leaves the process running, and no request of the protocol shows or ends it. So a turn must not be interrupted while
// there is such a command.
import { Transform } from 'node:stream';
import { orAbort } from '../../../async.ts';
import { memberOf } from '../../../json/json-object.ts';
import type { Notification } from '../protocol/protocol.ts';

/**
 * The parts of an answer that are read: the end of an event, and three members of an event that requests a command.
 * Codex starts commands with this tool only. In a JSON string the quotes would be escaped, so a match is always a
 * member.
 */
const PARTS = new RegExp(
  [
    '(?<end>\\n\\r?\\n)',
    '(?<whole>"type"\\s?:\\s?"response\\.output_item\\.done")',
    '"call_id"\\s?:\\s?"(?<callId>[^"\\\\]{1,256})"',
    '(?<command>"name"\\s?:\\s?"exec_command")',
  ].join('|'),
  'g',
);
/** No part is longer. */
const PART_CHARS_MAX = 300;
/** Maximum number of commands that are remembered at a time. */
const COMMANDS_MAX = 1_000;

export interface RequestedCommands {
  /** A stream that passes one answer of the provider on, until `hold`. */
  pass(): Transform;
  /** Reads what Codex reports of the turn. */
  notified(notification: Notification): void;
  /** Codex has returned from all calls of the model, or has ended. */
  allReturned(): void;
  /** From now on, no byte of the provider reaches Codex: the model cannot request another command. */
  hold(): void;
  /** Resolves when no command is being started. Throws the signal's reason. */
  settled(signal: AbortSignal): Promise<void>;
}

export function createRequestedCommands(): RequestedCommands {
  const callIds = new Set<string>();
  let isHeld = false;
  let wake = (): void => {};
  const allReturned = (): void => {
    callIds.clear();
    wake();
  };
  return {
    pass() {
      const scan = createScan((callId) => {
        if (callIds.size < COMMANDS_MAX) callIds.add(callId);
      });
      return new Transform({
        transform(chunk: Buffer, _encoding, callback) {
          // Without a call of `callback`, the stream waits until the turn ends it.
          if (isHeld) return;
          scan(chunk.toString('latin1'));
          callback(null, chunk);
        },
        flush(callback) {
          if (!isHeld) callback();
        },
      });
    },
    notified({ method, params }) {
      if (method === 'turn/completed') return allReturned();
      if (method !== 'item/started') return;
      // The item of a command has the id of the call.
      callIds.delete(String(memberOf(params.item, 'id')));
      if (callIds.size === 0) wake();
    },
    allReturned,
    hold() {
      isHeld = true;
    },
    async settled(signal) {
      if (callIds.size === 0) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await orAbort(promise, signal);
    },
  };
}

/**
 * Returns a function that reads the text of an answer, piece by piece. `found` receives the id of each call of a
 * command at the end of its event: before that, Codex does not start the command.
 */
function createScan(found: (callId: string) => void): (text: string) => void {
  let rest = '';
  let isWhole = false;
  let isCommand = false;
  let callId: string | undefined;
  return (text) => {
    const unread = rest + text;
    let readTo = 0;
    for (const { index, 0: part, groups = {} } of unread.matchAll(PARTS)) {
      readTo = index + part.length;
      isWhole ||= groups.whole !== undefined;
      isCommand ||= groups.command !== undefined;
      callId = groups.callId ?? callId;
      if (groups.end === undefined) continue;
      if (isWhole && isCommand && callId !== undefined) found(callId);
      isWhole = isCommand = false;
      callId = undefined;
    }
    rest = unread.slice(Math.max(readTo, unread.length - PART_CHARS_MAX));
  };
}
