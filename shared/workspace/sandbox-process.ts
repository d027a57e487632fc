// One running bwrap: what its status says, how it ends, and how everything inside is made to end.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { setImmediate as immediately, setTimeout as pause } from 'node:timers/promises';
import { RpcError } from '../errors.ts';

/** The descriptor on which bwrap tells the pid of the sandbox's init and, at the end, the exit code (`--json-status-fd`). */
export const STATUS_FD = 3;

/** Between TERM and KILL. */
export const GRACE_MS = 2_000;

const QUICK_CHECKS = 50;
const GONE_CHECK_MS = 1;
const NICE = 15;
/** What ends sooner is not worth the trouble. */
const LOWER_AFTER_MS = 50;
const GROUP_TRIES = 30;
const GROUP_PAUSE_MS = 100;
const STATUS_BYTES_MAX = 4096;

export interface Ended {
  readonly exitCode: number;
  /** False: bwrap could not set the sandbox up, and nobody had asked for its end. */
  readonly started: boolean;
}

export interface SandboxProcess {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when the process is gone and its streams are closed. Never rejects. */
  readonly ended: Promise<Ended>;
  /** TERM to the command's process group, after `graceMs` KILL to everything; later calls can only shorten the grace. */
  kill(graceMs: number): void;
}

/** Starts bwrap with an empty environment. Throws RpcError `invalid_params` for an argument list too long, `internal` otherwise. */
export async function startProcess(file: string, args: readonly string[], hasStdin: boolean): Promise<SandboxProcess> {
  const child = start(file, args, hasStdin);
  const [stdin, stdout, stderr, status] = child.stdio;
  await spawned(child);
  const { pid } = child;
  if (pid === undefined || !isReadable(stdout) || !isReadable(stderr) || !isReadable(status)) {
    throw new RpcError('internal', { cause: new Error('bwrap started without its pipes') });
  }

  let initPid: number | undefined;
  let exitCode: number | undefined;
  let text = '';
  let killTimer: NodeJS.Timeout | undefined;
  let lowerTimer: NodeJS.Timeout | undefined;
  let isGone = false;
  let isDoomed = false;

  status.on('error', () => {});
  status.on('data', (bytes: Buffer) => {
    if (text.length < STATUS_BYTES_MAX) text += bytes.toString('latin1');
    exitCode ??= numberOf(text, 'exit-code');
    if (initPid !== undefined) return;
    initPid = numberOf(text, 'child-pid');
    if (initPid === undefined) return;
    const pid = initPid;
    lowerTimer = setTimeout(() => void lower(pid), LOWER_AFTER_MS).unref();
    if (isDoomed) killAll();
  });
  stdin?.on('error', () => {});

  const ended = new Promise<Ended>((resolve) => {
    child.once('exit', () => {
      isGone = true;
      clearTimeout(lowerTimer);
      clearTimeout(killTimer);
    });
    child.once('close', (code, signal) => {
      const outer = isDoomed
        ? 128 + constants.signals.SIGKILL
        : (code ?? 128 + (signal ? constants.signals[signal] : 0));
      const started = exitCode !== undefined || signal !== null || isDoomed;
      void gone(initPid).then(() => resolve({ exitCode: exitCode ?? outer, started }));
    });
  });

  return {
    pid,
    stdin: stdin ?? undefined,
    stdout,
    stderr,
    ended,
    kill(graceMs) {
      if (isGone) return;
      clearTimeout(killTimer);
      // Init leads the group and, being init, does not hear TERM.
      const hears = graceMs > 0 && initPid !== undefined && send(-initPid, 'SIGTERM');
      if (hears) killTimer = setTimeout(killAll, graceMs);
      else killAll();
    },
  };

  /**
   * Killing init of a PID namespace kills all of it and waits for it; bwrap then says how it ended. Before bwrap has told init's pid it
   * must live: killed between making init and releasing it, it would leave it behind.
   */
  function killAll(): void {
    if (isGone) return;
    isDoomed = true;
    if (initPid !== undefined && exitCode === undefined) send(initPid, 'SIGKILL');
    // Should bwrap itself hang, its death takes the rest along (--die-with-parent).
    killTimer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
  }
}

/** bwrap ends as soon as the command has; its init may still be busy killing what the command left behind. */
async function gone(initPid: number | undefined): Promise<void> {
  if (initPid === undefined) return;
  const deadlineMs = performance.now() + GRACE_MS;
  // Most are gone before anybody can look: asked without a file or a timer first.
  for (let left = QUICK_CHECKS; left > 0; left--) {
    if (!send(initPid, 0)) return;
    await immediately();
  }
  while (performance.now() < deadlineMs) {
    const stat = await readFile(`/proc/${initPid}/stat`, 'latin1').catch(() => '');
    // A zombie has no more children; reaping it is for whoever adopted it.
    if (stat === '' || /^\d+ \(.*\) [ZX]/.test(stat)) return;
    await pause(GONE_CHECK_MS);
  }
}

/** Behind the gateway for the processor: init, which hands it on, and what it has started. Group by group where the scheduler has groups. */
async function lower(initPid: number): Promise<void> {
  try {
    setPriority(initPid, NICE);
    const children = await readFile(`/proc/${initPid}/task/${initPid}/children`, 'latin1').catch(() => '');
    for (const child of children.split(' ').filter((text) => text !== '')) setPriority(Number(child), NICE);
    for (let left = GROUP_TRIES; left > 0; left--) {
      const stat = await readFile(`/proc/${initPid}/stat`, 'latin1');
      // Fields after the name: state, parent, group, session. Until init has a session of its own, it is in the gateway's.
      const session = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3];
      const isDone = session === String(initPid) && (await lowerGroup(initPid));
      if (isDone) return;
      await pause(session === String(initPid) ? GROUP_PAUSE_MS : GONE_CHECK_MS, undefined, { ref: false });
    }
  } catch {
    // It has ended already.
  }
}

/** Where the scheduler shares by session, it is the session that must be lowered; without root, one in 100 ms on all of a machine. */
async function lowerGroup(pid: number): Promise<boolean> {
  try {
    await writeFile(`/proc/${pid}/autogroup`, String(NICE));
    return true;
  } catch (error) {
    // Anything but "try again": the machine has no such groups.
    return !(error instanceof Error && 'code' in error && error.code === 'EAGAIN');
  }
}

/** The name behind an exit code above 128, as shells count. */
export function signalOf(exitCode: number): string | undefined {
  if (exitCode <= 128) return undefined;
  return Object.entries(constants.signals).find(([, number]) => number === exitCode - 128)?.[0];
}

function start(file: string, args: readonly string[], hasStdin: boolean): ChildProcess {
  try {
    return spawn(file, args, { stdio: [hasStdin ? 'pipe' : 'ignore', 'pipe', 'pipe', 'pipe'], env: {}, cwd: '/' });
  } catch (error) {
    throw spawnError(error);
  }
}

function spawned(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) => reject(spawnError(error)));
  });
}

function spawnError(error: unknown): RpcError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'E2BIG') {
    const issues = [{ path: 'args', message: 'command, args and env are longer than a process can be given' }];
    return new RpcError('invalid_params', { data: { issues } });
  }
  if (code === 'EAGAIN' || code === 'EMFILE' || code === 'ENOMEM')
    return new RpcError('unavailable', { retryAfterMs: 1_000, cause: error });
  return new RpcError('internal', { cause: error });
}

/** Everything inside goes with it. */
export function killPid(pid: number): void {
  send(pid, 'SIGKILL');
}

function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

function numberOf(text: string, name: string): number | undefined {
  const digits = new RegExp(`"${name}": *(\\d+)`).exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function isReadable(stream: Readable | Writable | null | undefined): stream is Readable {
  return stream != null && 'read' in stream;
}
