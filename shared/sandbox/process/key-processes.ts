// The processes of each key: those that are being started, and those that run.
import type { SandboxProcess } from './sandbox-process.ts';

export interface KeyProcesses {
  /** Counts `starting` as a process of the key that is being started, until it has settled. */
  track<T>(keyId: string, starting: Promise<T>): Promise<T>;
  /** The process runs; it is removed when it has ended. */
  add(keyId: string, child: SandboxProcess): void;
  /** Waits for the processes of a key that are being started, then kills all and waits for their end. */
  end(keyId: string): Promise<void>;
  /** Kills all running processes and waits for their end. */
  endAll(): Promise<void>;
}

export function createKeyProcesses(): KeyProcesses {
  /** Both with the keys to which they belong. */
  const starting = new Map<Promise<unknown>, string>();
  const running = new Map<SandboxProcess, string>();

  return {
    async track(keyId, started) {
      starting.set(started, keyId);
      try {
        return await started;
      } finally {
        starting.delete(started);
      }
    },
    add(keyId, child) {
      running.set(child, keyId);
      void child.ended.then(() => running.delete(child));
    },
    async end(keyId) {
      await Promise.allSettled(ofKey(starting, keyId));
      await killAll(ofKey(running, keyId));
    },
    endAll: () => killAll([...running.keys()]),
  };
}

function ofKey<T>(all: ReadonlyMap<T, string>, keyId: string): T[] {
  return [...all].flatMap(([each, owner]) => (owner === keyId ? [each] : []));
}

async function killAll(processes: readonly SandboxProcess[]): Promise<void> {
  for (const child of processes) {
    child.kill(0);
    child.stdout.resume();
    child.stderr.resume();
  }
  await Promise.all(processes.map((child) => child.ended));
}
