// Opens a terminal: starts its command in the sandbox, and reports its end.
import type { Sandbox, SandboxSpec } from '../sandbox/sandbox.ts';
import { openPty } from './pty.ts';
import { createTerminal, type Terminal } from './terminal.ts';
import type { OnWatchers } from './terminal-output.ts';
import type { Size, TerminalEnding, TerminalHandle, TerminalRequest } from './terminals.ts';

export interface OpenDeps {
  readonly sandbox: Sandbox;
  /** Called once for each terminal, when all of its processes have ended. */
  onEnded(ending: TerminalEnding): void;
}

const CHECK_CWD_MS = 5_000;
const TERM = 'xterm-256color';
/** Default shell: bash where it is installed, for its history and line editing. */
const DEFAULT_SHELL = ['/bin/sh', '-c', '[ -x /bin/bash ] && exec /bin/bash; exec /bin/sh'] as const;

/** Starts a terminal of the key `owner`. `onWatchers` is called when a watcher has joined or left. */
export async function openTerminal(
  { sandbox, onEnded }: OpenDeps,
  { owner, sessionId }: TerminalHandle,
  { shell, cwd, env, requestId, cols, rows }: TerminalRequest & Size,
  onWatchers: OnWatchers,
): Promise<Terminal> {
  // The cwd is checked by a command of its own. The terminal would print the failure as output, and the caller needs an
  // error.
  if (cwd !== undefined) {
    const bounds = { signal: AbortSignal.timeout(CHECK_CWD_MS), timeoutMs: CHECK_CWD_MS, outputBytesMax: 1_000 };
    await sandbox.run({ keyId: owner, argv: ['true'], cwd }, bounds);
  }
  const spec: SandboxSpec = {
    keyId: owner,
    argv: shell === undefined ? DEFAULT_SHELL : [shell],
    cwd,
    env: { TERM, ...env },
  };
  const startedMs = performance.now();
  const size = { cols, rows };
  const pty = await openPty(size, (tty) => sandbox.attach(spec, tty));
  const terminal = createTerminal(pty, size, onWatchers);
  void terminal.exited.then(({ exitCode }) => {
    const argv = shell === undefined ? [] : [shell];
    const durationMs = performance.now() - startedMs;
    onEnded({ owner, sessionId, requestId, argv, exitCode, durationMs });
  });
  return terminal;
}
