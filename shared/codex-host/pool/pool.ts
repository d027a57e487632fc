// The app-servers on this machine: one for each owner and link (gateway process). They are started when needed, and
// ended when they are idle, old or too large. Their number over all links is bounded; when all are busy, no further one
// is started.
import { RpcError } from '../../errors.ts';
import type { AppServer } from '../app-server/app-server.ts';
import {
  type Borrowed,
  createPooledServer,
  type PooledServer,
  type ServerLimits,
  tooManyTurns,
} from './pooled-server.ts';

export interface PoolLimits extends ServerLimits {
  /** Maximum number of app-servers. */
  readonly processesMax: number;
}

export const POOL_LIMITS: PoolLimits = {
  processesMax: 8,
  busyMax: 16,
  idleMs: 300_000,
  turnsMax: 500,
  residentBytesMax: 384 << 20,
};

/** Identifies an app-server. Links never share one. */
export interface PoolKey {
  readonly owner: string;
  readonly link: string;
}

export interface CodexPool {
  /** Throws RpcError `unavailable` when too many are busy, the error of a failed start, or the signal's reason. */
  borrow(key: PoolKey, signal: AbortSignal): Promise<Borrowed>;
  /**
   * Ends the app-servers of an owner that were started before `beforeMs` (of `performance.now()`). With `isForced` also
   * those with turns; without, they take no new ones and end after them.
   */
  endOwner(owner: string, beforeMs: number, isForced: boolean): Promise<void>;
  /** Ends the app-servers of a link and waits for their end. */
  endLink(link: string): Promise<void>;
  /** Ends all app-servers and waits for their end. */
  close(): Promise<void>;
}

export function createPool(start: (owner: string) => Promise<AppServer>, limits: PoolLimits = POOL_LIMITS): CodexPool {
  /** App-servers that accept new turns. */
  const current = new Map<string, PooledServer>();
  /** All running app-servers, including those that only finish their turns. */
  const running = new Map<PooledServer, PoolKey>();
  /** App-servers that are ending and do not count as running any more. */
  const ending = new Set<Promise<void>>();
  let isClosed = false;

  return {
    async borrow(key, signal) {
      signal.throwIfAborted();
      if (isClosed) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
      return (current.get(nameOf(key)) ?? startFor(key)).borrow(signal);
    },
    async endOwner(owner, beforeMs, isForced) {
      const old = select((server, key) => key.owner === owner && server.startedMs <= beforeMs);
      for (const server of old) server.retire();
      await endAll(old.filter(({ busy }) => isForced || busy === 0));
    },
    async endLink(link) {
      await endAll(select((_server, key) => key.link === link));
    },
    async close() {
      isClosed = true;
      await Promise.all([endAll([...running.keys()]), ...ending]);
    },
  };

  function startFor(key: PoolKey): PooledServer {
    makeRoom();
    const name = nameOf(key);
    const server = createPooledServer(() => start(key.owner), limits, {
      onRetired(retired) {
        if (current.get(name) === retired) current.delete(name);
      },
      onEnding(ended, end) {
        // Its place is free immediately, so until the app-server has ended, one more than the limit may run.
        running.delete(ended);
        ending.add(end);
        void end.then(() => ending.delete(end));
      },
      onGone: (gone) => void running.delete(gone),
    });
    current.set(name, server);
    running.set(server, key);
    return server;
  }

  function makeRoom(): void {
    if (running.size < limits.processesMax) return;
    const idle = select(({ busy }) => busy === 0).sort((a, b) => a.idleSinceMs - b.idleSinceMs);
    const [oldest] = idle;
    if (oldest === undefined) throw tooManyTurns();
    void oldest.end();
  }

  function select(matches: (server: PooledServer, key: PoolKey) => boolean): PooledServer[] {
    return [...running].flatMap(([server, key]) => (matches(server, key) ? [server] : []));
  }
}

async function endAll(servers: readonly PooledServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.end()));
}

function nameOf({ owner, link }: PoolKey): string {
  return JSON.stringify([owner, link]);
}
