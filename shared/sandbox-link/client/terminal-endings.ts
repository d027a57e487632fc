// Which terminals this process started, and the report of their end, which the sandbox sends. What goes into the log is
// what this process remembers: of the sandbox it takes the exit code and the duration.
import type { TerminalEnding, TerminalHandle, TerminalRequest } from '../../terminals/terminals.ts';
import { readParams, TerminalEnded } from '../messages.ts';

export interface TerminalEndings {
  started(handle: TerminalHandle, request: TerminalRequest): void;
  /** Takes the params of `terminal.ended`. Throws RpcError `invalid_params`. */
  ended(params: unknown): void;
}

/** Terminals whose end is not reported (the link was over) leave their entries behind. */
const STARTED_MAX = 1_000;

export function createTerminalEndings(report: (ending: TerminalEnding) => void): TerminalEndings {
  const started = new Map<string, Omit<TerminalEnding, 'exitCode' | 'durationMs'>>();
  return {
    started({ owner, sessionId }, { requestId, shell }) {
      const oldest = started.keys().next();
      if (started.size >= STARTED_MAX && !oldest.done) started.delete(oldest.value);
      const argv = shell === undefined ? [] : [shell];
      started.set(idOf(owner, sessionId), { owner, sessionId, requestId, argv });
    },
    ended(params) {
      const { owner, session, exit_code: exitCode, duration_ms: durationMs } = readParams(TerminalEnded, params);
      const id = idOf(owner, session);
      const own = started.get(id);
      started.delete(id);
      if (own !== undefined) report({ ...own, exitCode, durationMs });
    },
  };
}

function idOf(owner: string, sessionId: string): string {
  return JSON.stringify([owner, sessionId]);
}
