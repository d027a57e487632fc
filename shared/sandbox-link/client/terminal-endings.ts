// Remembers the terminals that this process has started, and reports their end when the sandbox sends it. The sandbox
// is not trusted: only the exit code and the duration in the log come from it.
import type { TerminalEnding, TerminalHandle, TerminalRequest } from '../../terminals/terminals.ts';
import { readParams, TerminalEnded } from '../messages.ts';

export interface TerminalEndings {
  started(handle: TerminalHandle, request: TerminalRequest): void;
  /** Handles the params of `terminal.ended`. Throws RpcError `invalid_params`. */
  ended(params: unknown): void;
}

/** Bounds the entries, because some ends are never reported (the link was over). */
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
