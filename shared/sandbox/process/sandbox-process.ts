// One running bwrap: its status, its end, and how everything inside is ended.
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { setImmediate as immediately, setTimeout as pause } from 'node:timers/promises';
import { RpcError } from '../../errors.ts';
import { lowerSession } from './priority.ts';
import type { SpawnedProcess, Spawner, SpawnOptions } from './spawner.ts';

/** Between TERM and KILL. */
export const GRACE_MS = 2_000;

const QUICK_CHECKS = 50;
const GONE_CHECK_MS = 1;
/** For a process that ends sooner, the change is not worth its cost. */
const LOWER_AFTER_MS = 15;
const STATUS_BYTES_MAX = 4096;

export interface Ended {
  readonly exitCode: number;
  /** False: bwrap could not set up the sandbox, and it was not killed. */
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
   * TERM to the command's process group, after `graceMs` KILL to all processes; later calls can only shorten the grace.
   */
  kill(graceMs: number): void;
}

export interface StartOptions extends Omit<SpawnOptions, 'onStatus'> {
  readonly nice: number;
}

/**
 * Starts bwrap with an empty environment; its status is the pid of the sandbox's init and, at the end, the exit code
 * (`--json-status-fd`). Throws RpcError `invalid_params` for an argument list that is too long, `internal` otherwise.
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
  let isGone = false;
  let isDoomed = false;

  const onStatus = (more: string): void => {
    if (text.length < STATUS_BYTES_MAX) text += more;
    exitCode ??= numberOf(text, 'exit-code');
    if (initPid !== undefined) return;
    initPid = numberOf(text, 'child-pid');
    if (initPid === undefined) return;
    const pid = initPid;
    lowerTimer = setTimeout(() => void lowerSession(pid, nice), LOWER_AFTER_MS).unref();
    if (isDoomed) killAll();
  };
  let child: SpawnedProcess;
  try {
    child = await spawner.spawn(file, args, { ...options, onStatus });
  } catch (error) {
    throw spawnError(error);
  }
  const { pid, stdin, stdout, stderr, listener } = child;
  stdin?.on('error', () => {});
  const ended = end();

  return {
    pid,
    stdin,
    stdout,
    stderr,
    listener,
    ended,
    kill(graceMs) {
      if (isGone) return;
      clearTimeout(killTimer);
      // Init leads the group; the kernel does not deliver TERM to the init of a PID namespace.
      const isSent = graceMs > 0 && initPid !== undefined && send(-initPid, 'SIGTERM');
      if (isSent) killTimer = setTimeout(killAll, graceMs);
      else killAll();
    },
  };

  async function end(): Promise<Ended> {
    const closed = [stdout, stderr].map(closing);
    const { code, signal } = await child.exited;
    isGone = true;
    clearTimeout(lowerTimer);
    clearTimeout(killTimer);
    // Little output is left, and it may have no reader any more.
    for (const stream of [stdout, stderr]) stream.resume();
    await Promise.all(closed);
    const outer = isDoomed ? 128 + constants.signals.SIGKILL : (code ?? 128 + (signal ? constants.signals[signal] : 0));
    const started = exitCode !== undefined || signal !== null || isDoomed;
    await gone(initPid);
    return { exitCode: exitCode ?? outer, started };
  }

  /**
   * KILL to the init of a PID namespace ends all of it; bwrap then writes its exit code and ends. Before bwrap has
   * written init's pid it must not be killed: between creating init and releasing it, its death would leave init
   * behind.
   */
  function killAll(): void {
    if (isGone) return;
    isDoomed = true;
    if (initPid !== undefined && exitCode === undefined) send(initPid, 'SIGKILL');
    // If bwrap itself hangs, its death ends the others (--die-with-parent).
    killTimer = setTimeout(() => child.kill(), GRACE_MS);
  }
}

/** bwrap ends as soon as the command has; its init may still be killing the command's children. */
async function gone(initPid: number | undefined): Promise<void> {
  if (initPid === undefined) return;
  const deadlineMs = performance.now() + GRACE_MS;
  // Most have ended at the first check, which needs no file and no timer.
  for (let left = QUICK_CHECKS; left > 0; left--) {
    if (!send(initPid, 0)) return;
    await immediately();
  }
  while (performance.now() < deadlineMs) {
    const stat = await readFile(`/proc/${initPid}/stat`, 'latin1').catch(() => '');
    // A zombie has no more children; its new parent reaps it.
    if (stat === '' || /^\d+ \(.*\) [ZX]/.test(stat)) return;
    await pause(GONE_CHECK_MS);
  }
}

/** The name of the signal behind an exit code above 128, as shells count. */
export function signalOf(exitCode: number): string | undefined {
  if (exitCode <= 128) return undefined;
  return Object.entries(constants.signals).find(([, number]) => number === exitCode - 128)?.[0];
}

function spawnError(error: unknown): RpcError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'E2BIG') return tooLong();
  if (code === 'EAGAIN' || code === 'EMFILE' || code === 'ENOMEM')
    return new RpcError('unavailable', { retryAfterMs: 1_000, cause: error });
  return new RpcError('internal', { cause: error });
}

/** Of `command`, `args` and `env` together; also where only bwrap, inside, would exceed the limit. */
export function tooLong(): RpcError {
  const issues = [{ path: 'args', message: 'command, args and env are longer than a process can be given' }];
  return new RpcError('invalid_params', { data: { issues } });
}

function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** Resolves when the stream is closed; a stream without a byte may have closed already. */
function closing(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once('close', resolve);
  });
}

function numberOf(text: string, name: string): number | undefined {
  const digits = new RegExp(`"${name}": *(\\d+)`).exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
