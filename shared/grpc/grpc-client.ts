// A client of one of Google's gRPC services (Firestore, Pub/Sub, KMS, Secret Manager). It is created at the first call,
// and replaced when its connection is dead (grpc-replacement.ts).
import { type BoundedOptions, type Bounds, bounded, settledWithin } from '../async.ts';
import { RpcError } from '../errors.ts';
import { type ClientsOptions, createAnswerCount, createClients, type Opened } from './grpc-replacement.ts';

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

/** Deadline for the import of the SDK and its authentication; it does not count towards the deadline of the call. */
const OPEN_TIMEOUT_MS = 10_000;
/** Deadline of close(): the process ends soon after it, and a client that is still being opened may never be. */
const CLOSE_TIMEOUT_MS = 1_000;

export interface GrpcClientOptions<Client> extends ClientsOptions<Client> {
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

export function createGrpcClient<Client>(options: GrpcClientOptions<Client>): GrpcClient<Client> {
  const clients = createClients(options);
  const answers = createAnswerCount(clients, options.onReplaced);
  let closed = false;

  async function clientOf(opened: Opened<Client>, signal: AbortSignal | undefined): Promise<Client> {
    if (opened.client !== undefined) return opened.client;
    const toTimeout = (): RpcError => {
      clients.retire(opened);
      return unavailable('deadline');
    };
    return bounded({ signal, timeoutMs: OPEN_TIMEOUT_MS, toTimeout }, () => opened.opening);
  }

  return {
    async run(call, work) {
      if (closed) throw unavailable('the client is closed');
      const opened = clients.current();
      const client = await clientOf(opened, call.signal);
      const toTimeout = (): unknown => {
        answers.missed(opened);
        return call.toTimeout?.() ?? unavailable('deadline');
      };
      return bounded({ ...call, toTimeout }, async (bounds) => {
        try {
          const result = await work(client, bounds);
          answers.received(opened);
          return result;
        } catch (error) {
          if (!bounds.signal.aborted) answers.failed(opened, error);
          throw error;
        }
      });
    },
    async open() {
      await clients.current().opening;
    },
    async close() {
      closed = true;
      await settledWithin(CLOSE_TIMEOUT_MS, clients.closeAll());
    },
  };
}

function unavailable(cause: string): RpcError {
  return new RpcError('unavailable', { cause: new Error(cause) });
}
