// A client of one of Google's gRPC services (Firestore, Pub/Sub, KMS, Secret Manager). It is created at the first call,
// and replaced when its connection is dead. If a network device drops the packets of a connection (without FIN or RST),
// the SDK regards the connection as open, and every call on it would miss its deadline.
import { type BoundedOptions, type Bounds, bounded, settledWithin } from './async.ts';
import { RpcError } from './errors.ts';

/** Options of every channel; the SDKs pass them to gRPC. */
export const CHANNEL_OPTIONS = {
  // After an unanswered ping, the connection is closed and the channel connects again. Pings are sent only while a call
  // is open, and with the first call after a pause, because an idle instance has no processor time.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 5_000,
  // Reconnects soon after an outage: by default, the pause between attempts grows to two minutes.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  // Without this option, channels with equal options share connections, and a new client would get the dead one.
  'grpc.use_local_subchannel_pool': 1,
} as const;

/** The emulators close a connection that is pinged more often than every five minutes while it carries nothing. */
export const EMULATOR_CHANNEL_OPTIONS = { ...CHANNEL_OPTIONS, 'grpc.keepalive_time_ms': 300_000 } as const;

/** Consecutive calls without an answer of the service after which a client is replaced. */
const MISSES_MAX = 2;
/**
 * Minimum interval between replacements. It bounds the number of clients in an outage of the service, which cannot be
 * distinguished from a dead connection.
 */
const REPLACE_EVERY_MS = 5_000;
/** A replaced client is closed after this time, because a slow response to one of its calls may still arrive. */
const CLOSE_AFTER_MS = 60_000;
/** Deadline for the import of the SDK and its authentication; it does not count towards the deadline of the call. */
const OPEN_TIMEOUT_MS = 10_000;
/** Deadline of close(): the process ends soon after it, and a client that is still being opened may never be. */
const CLOSE_TIMEOUT_MS = 1_000;
/** gRPC statuses (https://grpc.io/docs/guides/status-codes/). */
const CANCELLED = 1;
const UNKNOWN = 2;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;
const UNAUTHENTICATED = 16;
/**
 * Statuses that the library can report without a response of the service. (UNAUTHENTICATED, because the SDK caches a
 * failed authentication.)
 */
const WITHOUT_ANSWER: ReadonlySet<number> = new Set([
  CANCELLED,
  UNKNOWN,
  DEADLINE_EXCEEDED,
  UNAVAILABLE,
  UNAUTHENTICATED,
]);

export interface GrpcClientOptions<Client> {
  /** Imports the SDK and creates a client. */
  open(): Promise<Client>;
  close(client: Client): Promise<unknown>;
  /** Called after the first answer that a replacing client received: other connections may be dead, too. */
  onReplaced?(): void;
}

export interface GrpcClient<Client> {
  /**
   * Runs one call, which must end at its bounds. Rejects with `toTimeout()` (default RpcError `unavailable`) at the
   * deadline, with the signal's reason when that aborts, with the error of opening the client, or with the call's own.
   */
  run<R>(call: BoundedOptions, work: (client: Client, bounds: Bounds) => Promise<R>): Promise<R>;
  /** Opens the client, without a call. */
  open(): Promise<void>;
  /** Closes all clients; later calls reject with RpcError `unavailable`. */
  close(): Promise<void>;
}

interface Opened<Client> {
  readonly opening: Promise<Client>;
  client: Client | undefined;
  /** Consecutive calls without an answer. */
  misses: number;
}

export function createGrpcClient<Client>(options: GrpcClientOptions<Client>): GrpcClient<Client> {
  const retired = new Map<Opened<Client>, NodeJS.Timeout>();
  let current: Opened<Client> | undefined;
  /** A client was replaced, and no later one has received an answer. */
  let isReplacing = false;
  let replacedAtMs = Number.NEGATIVE_INFINITY;
  let closed = false;

  function begin(): Opened<Client> {
    const opened: Opened<Client> = { opening: options.open(), client: undefined, misses: 0 };
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

  /** Replaces the client: running calls end by themselves, and the next call creates a new client. */
  function replace(opened: Opened<Client>): void {
    const nowMs = performance.now();
    if (current !== opened || nowMs - replacedAtMs < REPLACE_EVERY_MS) return;
    replacedAtMs = nowMs;
    isReplacing = true;
    retire(opened);
  }

  function retire(opened: Opened<Client>): void {
    if (current !== opened) return;
    current = undefined;
    retired.set(opened, setTimeout(() => void end(opened), CLOSE_AFTER_MS).unref());
  }

  async function end(opened: Opened<Client>): Promise<void> {
    clearTimeout(retired.get(opened));
    retired.delete(opened);
    // close() of a client that could not connect rejects with the same error.
    await opened.opening.then(options.close).catch(() => {});
  }

  function missed(opened: Opened<Client>): void {
    opened.misses++;
    if (opened.misses >= MISSES_MAX) replace(opened);
  }

  function answered(opened: Opened<Client>): void {
    opened.misses = 0;
    if (!isReplacing || opened !== current) return;
    isReplacing = false;
    options.onReplaced?.();
  }

  function failed(opened: Opened<Client>, error: unknown): void {
    const status = statusOf(error) ?? (error instanceof Error ? statusOf(error.cause) : undefined);
    if (status === undefined && error instanceof RpcError) return;
    if (status === undefined || WITHOUT_ANSWER.has(status)) missed(opened);
    else answered(opened);
  }

  async function clientOf(opened: Opened<Client>, signal: AbortSignal | undefined): Promise<Client> {
    if (opened.client !== undefined) return opened.client;
    const toTimeout = (): RpcError => {
      retire(opened);
      return unavailable('deadline');
    };
    return bounded({ signal, timeoutMs: OPEN_TIMEOUT_MS, toTimeout }, () => opened.opening);
  }

  return {
    async run(call, work) {
      if (closed) throw unavailable('the client is closed');
      current ??= begin();
      const opened = current;
      const client = await clientOf(opened, call.signal);
      const toTimeout = (): unknown => {
        missed(opened);
        return call.toTimeout?.() ?? unavailable('deadline');
      };
      return bounded({ ...call, toTimeout }, async (bounds) => {
        try {
          const result = await work(client, bounds);
          answered(opened);
          return result;
        } catch (error) {
          if (!bounds.signal.aborted) failed(opened, error);
          throw error;
        }
      });
    },
    async open() {
      current ??= begin();
      await current.opening;
    },
    async close() {
      closed = true;
      const all = [...retired.keys(), ...(current === undefined ? [] : [current])];
      current = undefined;
      await settledWithin(CLOSE_TIMEOUT_MS, Promise.all(all.map(end)));
    },
  };
}

/** The gRPC status of an error of an SDK; undefined for an error that is no status. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof RpcError || !(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'number' ? error.code : undefined;
}

function unavailable(cause: string): RpcError {
  return new RpcError('unavailable', { cause: new Error(cause) });
}
