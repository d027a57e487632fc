// Keeps ended terminals for a while, so that a late watcher receives the remaining output and the exit. Their number is
// bounded per owner and in total; the oldest is dropped first.
import type { Terminal } from './terminal.ts';

export interface EndedTerminals {
  get(id: string): Terminal | undefined;
  keep(id: string, owner: string, terminal: Terminal): void;
  /** Removes an entry, for example when a new terminal has the id. */
  drop(id: string): void;
  /** Drops those that match. */
  dropAll(matches: (id: string, terminal: Terminal) => boolean): void;
}

export interface EndedTerminalsOptions {
  readonly keptMs: number;
  readonly perKeyMax: number;
  readonly totalMax: number;
}

export function createEndedTerminals({ keptMs, perKeyMax, totalMax }: EndedTerminalsOptions): EndedTerminals {
  const kept = new Map<
    string,
    { readonly owner: string; readonly terminal: Terminal; readonly timer: NodeJS.Timeout }
  >();

  const drop = (id: string | undefined): void => {
    if (id === undefined) return;
    clearTimeout(kept.get(id)?.timer);
    kept.delete(id);
  };

  return {
    get: (id) => kept.get(id)?.terminal,
    keep(id, owner, terminal) {
      drop(id);
      const own = [...kept].filter(([, other]) => other.owner === owner);
      if (own.length >= perKeyMax) drop(own[0]?.[0]);
      if (kept.size >= totalMax) drop(kept.keys().next().value);
      kept.set(id, { owner, terminal, timer: setTimeout(() => drop(id), keptMs).unref() });
    },
    drop,
    dropAll(matches) {
      for (const [id, { terminal }] of kept) if (matches(id, terminal)) drop(id);
    },
  };
}
