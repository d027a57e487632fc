// Replaces a client of a gRPC service when its connection is dead. If a network device drops the packets of a
// connection (without FIN or RST), the SDK regards the connection as open, and every call on it would miss its
// deadline.
import { RpcError } from '../errors.ts';
import { GRPC, statusOf } from './grpc-status.ts';

/** Consecutive calls without an answer of the service after which a client is replaced. */
const MISSES_MAX = 2;
/**
 * Minimum interval between replacements. It bounds the number of clients in an outage of the service, which cannot be
 * distinguished from a dead connection.
 */
const REPLACE_EVERY_MS = 5_000;
/** A replaced client is closed after this time, because a slow response to one of its calls may still arrive. */
const CLOSE_AFTER_MS = 60_000;
/**
 * Statuses that the library can report without a response of the service. (UNAUTHENTICATED, because the SDK caches a
 * failed authentication.)
 */
const WITHOUT_ANSWER: ReadonlySet<number> = new Set([
  GRPC.cancelled,
  GRPC.unknown,
  GRPC.deadlineExceeded,
  GRPC.unavailable,
  GRPC.unauthenticated,
]);

export interface ClientsOptions<Client> {
  /** Imports the SDK and creates a client. */
  open(): Promise<Client>;
  close(client: Client): Promise<unknown>;
}

export interface Opened<Client> {
  readonly opening: Promise<Client>;
  client: Client | undefined;
  /** Consecutive calls without an answer. */
  misses: number;
}

export interface Clients<Client> {
  /** The client of new calls; opens one if there is none. */
  current(): Opened<Client>;
  isCurrent(opened: Opened<Client>): boolean;
  /** The next call opens a new client. Running calls on the old one end by themselves; it is closed later. */
  retire(opened: Opened<Client>): void;
  closeAll(): Promise<unknown>;
}

export function createClients<Client>({ open, close }: ClientsOptions<Client>): Clients<Client> {
  const retired = new Map<Opened<Client>, NodeJS.Timeout>();
  let current: Opened<Client> | undefined;

  function begin(): Opened<Client> {
    const opened: Opened<Client> = { opening: open(), client: undefined, misses: 0 };
    opened.opening.then(
      (client) => {
        opened.client = client;
      },
      () => {
        if (current === opened) current = undefined;
      },
    );
    return opened;
  }

  async function end(opened: Opened<Client>): Promise<void> {
    clearTimeout(retired.get(opened));
    retired.delete(opened);
    // close() of a client that could not connect rejects with the same error.
    await opened.opening.then(close).catch(() => {});
  }

  return {
    current() {
      current ??= begin();
      return current;
    },
    isCurrent: (opened) => current === opened,
    retire(opened) {
      if (current !== opened) return;
      current = undefined;
      retired.set(opened, setTimeout(() => void end(opened), CLOSE_AFTER_MS).unref());
    },
    closeAll() {
      const all = [...retired.keys(), ...(current === undefined ? [] : [current])];
      current = undefined;
      return Promise.all(all.map(end));
    },
  };
}

/** Counts the calls that the service has answered or not, and replaces a client after MISSES_MAX unanswered ones. */
export function createAnswerCount<Client>(clients: Clients<Client>, onReplaced: (() => void) | undefined) {
  /** A client was replaced, and no later one has received an answer. */
  let isReplacing = false;
  let replacedAtMs = Number.NEGATIVE_INFINITY;

  function missed(opened: Opened<Client>): void {
    opened.misses++;
    const nowMs = performance.now();
    if (opened.misses < MISSES_MAX || !clients.isCurrent(opened) || nowMs - replacedAtMs < REPLACE_EVERY_MS) return;
    replacedAtMs = nowMs;
    isReplacing = true;
    clients.retire(opened);
  }

  function received(opened: Opened<Client>): void {
    opened.misses = 0;
    if (!isReplacing || !clients.isCurrent(opened)) return;
    isReplacing = false;
    onReplaced?.();
  }

  function failed(opened: Opened<Client>, error: unknown): void {
    const status = statusOf(error) ?? (error instanceof Error ? statusOf(error.cause) : undefined);
    if (status === undefined && error instanceof RpcError) return;
    if (status === undefined || WITHOUT_ANSWER.has(status)) missed(opened);
    else received(opened);
  }

  return { missed, received, failed };
}
