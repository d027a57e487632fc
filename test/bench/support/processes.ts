// Starts and stops the processes that a bench measures, each pinned to its own core where `taskset` exists.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

/** Whether processes can be pinned; otherwise client and server share the cores and ratios vary more. */
const CAN_PIN = spawnSync('taskset', ['-V']).status === 0;

export interface Server {
  readonly url: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

/**
 * Starts `node args...` on a core (default 0; `any`: on all of them) and waits for a line that matches `ready` (its
 * first group is the URL).
 */
export async function startServer(
  args: readonly string[],
  ready: RegExp,
  env: Readonly<Record<string, string>> = {},
  core: number | 'any' = 0,
): Promise<Server> {
  const command = CAN_PIN && core !== 'any' ? ['taskset', '-c', String(core), process.execPath] : [process.execPath];
  const [program = process.execPath, ...rest] = command;
  const child = spawn(program, [...rest, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
  });
  const url = await new Promise<string>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      // Later output is read and dropped: a full pipe would block the process.
      if (text.length < 10_000) text += chunk.toString();
      const match = ready.exec(text);
      if (match?.[1] !== undefined) resolve(match[1]);
    });
    child.once('exit', (code) => reject(new Error(`server exited with ${code}: ${text}`)));
  });
  return {
    url,
    process: child,
    async stop() {
      if (child.exitCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}
