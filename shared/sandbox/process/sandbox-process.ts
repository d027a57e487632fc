// One running bwrap process: reads its status, detects its end, and kills all processes of the sandbox.
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { setImmediate as immediately, setTimeout as pause } from 'node:timers/promises';
import { codeOf, RpcError } from '../../errors.ts';
import type { SpawnedProcess } from '../spawner/spawned-process.ts';
import type { Spawner, SpawnOptions } from '../spawner/spawner.ts';
import { lowerSession } from './priority.ts';

/** Time between TERM and KILL. */
export const GRACE_MS = 2_000;

const QUICK_CHECKS = 10;
const GONE_CHECK_MS = 1;
/** The priority is lowered after this time. For a process that ends earlier, the change costs more than it saves. */
const LOWER_AFTER_MS = 15;
const STATUS_BYTES_MAX = 4096;

export interface Ended {
  readonly exitCode: number;
  /** False: bwrap could not set up the sandbox, and received no signal. */
  readonly started: boolean;
}

export interface SandboxProcess {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly listener: SpawnedProcess['listener'];
  /** Resolves when the process has ended and its streams are closed. Never rejects. */
  readonly ended: Promise<Ended>;
  /**
   * Sends TERM to the command's process group, and after `graceMs` KILL to all processes. A later call can only shorten
   * the time.
   */
  kill(graceMs: number): void;
}

export interface StartOptions extends Omit<SpawnOptions, 'onStatus'> {
  readonly nice: number;
}

/**
 * Starts bwrap with an empty environment. bwrap reports as status (`--json-status-fd`) the pid of the sandbox's init
 * process, and at the end the exit code. Throws RpcError `invalid_params` for an argument list that is too long,
 * `internal` otherwise.
 */
export async function startProcess(
  spawner: Spawner,
  file: string,
  args: readonly string[],
  { nice, ...options }: StartOptions,
): Promise<SandboxProcess> {
  let initPid: number | undefined;
  let exitCode: number | undefined;
  let text = '';
  let killTimer: NodeJS.Timeout | undefined;
  let lowerTimer: NodeJS.Timeout | undefined;
  let hasExited = false;
  let isKillRequested = false;
  let isTerminated = false;

  const onStatus = (more: string): void => {
    if (text.length < STATUS_BYTES_MAX) text += more;
    exitCode ??= numberOf(text, 'exit-code');
    if (initPid !== undefined) return;
    initPid = numberOf(text, 'child-pid');
    if (initPid === undefined) return;
    const pid = initPid;
    lowerTimer = setTimeout(() => void lowerSession(pid, nice), LOWER_AFTER_MS).unref();
    if (isKillRequested) killAll();
  };
  let child: SpawnedProcess;
  try {
    child = await spawner.spawn(file, args, { ...options, onStatus });
  } catch (error) {
    throw spawnError(error);
  }
  const { pid, stdin, stdout, stderr, listener } = child;
  stdin?.on('error', () => {});
  const ended = waitForEnd();

  return {
    pid,
    stdin,
    stdout,
    stderr,
    listener,
    ended,
    kill(graceMs) {
      if (hasExited) return;
      clearTimeout(killTimer);
      // Sent to the process group of init, because the kernel does not deliver TERM to the init of a PID namespace
      // itself.
      const isSent = graceMs > 0 && initPid !== undefined && send(-initPid, 'SIGTERM');
      isTerminated ||= isSent;
      if (isSent) killTimer = setTimeout(killAll, graceMs);
      else killAll();
    },
  };

  async function waitForEnd(): Promise<Ended> {
    const closed = [stdout, stderr].map(whenClosed);
    const { code, signal } = await child.exited;
    hasExited = true;
    clearTimeout(lowerTimer);
    clearTimeout(killTimer);
    // The remaining output is read, because the streams close only then and their reader may be gone.
    for (const stream of [stdout, stderr]) stream.resume();
    await Promise.all(closed);
    const exitCodeOfBwrap = isKillRequested
      ? 128 + constants.signals.SIGKILL
      : (code ?? 128 + (signal ? constants.signals[signal] : 0));
    const started = exitCode !== undefined || signal !== null || isKillRequested || isTerminated;
    await waitForEndOf(initPid);
    return { exitCode: exitCode ?? exitCodeOfBwrap, started };
  }

  /**
   * Kills the init process, which ends all processes of its PID namespace; bwrap then writes the exit code and ends.
   * bwrap must not be killed before it has written init's pid, because an init that it has created and not yet released
   * would stay.
   */
  function killAll(): void {
    if (hasExited) return;
    isKillRequested = true;
    if (initPid !== undefined && exitCode === undefined) send(initPid, 'SIGKILL');
    // If bwrap hangs, killing it ends the other processes (--die-with-parent).
    killTimer = setTimeout(() => child.kill(), GRACE_MS);
  }
}

/**
 * Resolves when init has ended. bwrap ends as soon as the command does, while init may still be killing the command's
 * children.
 */
async function waitForEndOf(initPid: number | undefined): Promise<void> {
  if (initPid === undefined) return;
  const deadlineMs = performance.now() + GRACE_MS;
  for (let left = QUICK_CHECKS; left > 0; left--) {
    if (hasEnded(initPid)) return;
    await immediately();
  }
  while (!hasEnded(initPid) && performance.now() < deadlineMs) await pause(GONE_CHECK_MS);
}

/**
 * A zombie has no more children; its new parent reaps it, which may take milliseconds. Read synchronously, because the
 * thread pool takes longer than a file of the kernel.
 */
function hasEnded(pid: number): boolean {
  try {
    return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true;
  }
}

/** The name of the signal behind an exit code above 128, as shells count. */
export function signalOf(exitCode: number): string | undefined {
  if (exitCode <= 128) return undefined;
  return Object.entries(constants.signals).find(([, number]) => number === exitCode - 128)?.[0];
}

function spawnError(error: unknown): RpcError {
  const code = codeOf(error);
  if (code === 'E2BIG') return tooLong();
  if (code === 'EAGAIN' || code === 'EMFILE' || code === 'ENOMEM')
    return new RpcError('unavailable', { retryAfterMs: 1_000, cause: error });
  return new RpcError('internal', { cause: error });
}

/** The error for `command`, `args` and `env` that are too long together. */
export function tooLong(): RpcError {
  const issues = [{ path: 'args', message: 'command, args and env together exceed the limit for a process' }];
  return new RpcError('invalid_params', { data: { issues } });
}

function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** Resolves when the stream is closed; an empty stream may have closed already. */
function whenClosed(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once('close', resolve);
  });
}

function numberOf(text: string, name: string): number | undefined {
  const digits = new RegExp(`"${name}": *(\\d+)`).exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
