// The app-servers that this process uses, each with the client of its protocol, its loaded threads and the tokens of
// its running turns.
import type { CodexHost, CodexSession } from '../../../codex-host/codex-host.ts';
import { type CodexClient, createCodexClient } from '../protocol/client.ts';
import type { Relay } from '../relay/relay.ts';
import { createRunningTurns, type RunningTurns } from '../relay/running-turns.ts';
import type { LoadedThread } from './known-thread.ts';

/** An app-server that is borrowed for one turn. Return it with `session.release`. */
export interface AppServer extends Attached {
  readonly session: CodexSession;
}

interface Attached {
  readonly client: CodexClient;
  /** The loaded threads, by conversation id. */
  readonly threads: Map<string, LoadedThread>;
  readonly running: RunningTurns;
}

export interface AppServers {
  /** Whether an app-server of the owner that this process has used is running. */
  has(owner: string): boolean;
  /** Throws the errors of `CodexHost.open`. */
  borrow(owner: string, signal: AbortSignal): Promise<AppServer>;
}

export function createAppServers(host: CodexHost, relay: Relay): AppServers {
  /** By process id. */
  const attached = new Map<string, Attached & { readonly owner: string }>();
  return {
    has: (owner) => [...attached.values()].some((one) => one.owner === owner),
    async borrow(owner, signal) {
      const session = await host.open(owner, signal);
      const found = attached.get(session.processId) ?? { owner, ...attach(session) };
      attached.set(session.processId, found);
      return { ...found, session };
    },
  };

  function attach(session: CodexSession): Attached {
    const client = createCodexClient(session);
    const running = createRunningTurns();
    session.onRequest((request, answer) => relay.forward(request, answer, running));
    void client.closed.then(() => {
      attached.delete(session.processId);
      // The process may still run, if it has sent an unreadable line.
      return session.end().catch(() => undefined);
    });
    return { client, threads: new Map(), running };
  }
}
