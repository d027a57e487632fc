// Deadlines and limits of one HTTP call to a provider; each aborts the same AbortSignal. The bytes are counted below
// the SDK, because the SDK does not pass on the keep-alive events of a provider.
export interface Deadlines {
  /** From the start of a call to the first byte of its response, including credentials and connecting. */
  readonly firstByteMs: number;
  /** Longest time between two reads of an answer. Reasoning models may send nothing for a minute. */
  readonly idleMs: number;
  /** The whole turn, retries included. */
  readonly totalMs: number;
}

/**
 * After the provider's end marker the rest of the body is read for at most this long, so that the connection can be
 * reused.
 */
const DRAIN_MS = 250;

export interface CallGuard {
  /** Signal of the HTTP request. */
  readonly signal: AbortSignal;
  /** Rejects with the signal's reason, for work without an AbortSignal. */
  readonly aborted: Promise<never>;
  /** Records received bytes of the response. */
  received(sizeBytes: number): void;
  /** Pauses the idle deadline while the consumer of the events is busy. */
  hold(): void;
  release(): void;
  /** Records the provider's end marker and starts the short deadline for the rest of the body. */
  finishing(): void;
  /**
   * Clears the timers. Aborts the call unless its body was read completely: an abort creates an error with a stack,
   * which is slow.
   */
  close(whole: boolean): void;
}

export interface CallGuardOptions {
  /** The caller's signal. */
  readonly signal: AbortSignal;
  readonly firstByteMs: number;
  readonly idleMs: number;
  /** Deadline of the whole turn, which may have several calls; the error message contains it. */
  readonly totalMs: number;
  /** The rest of `totalMs`. */
  readonly leftMs: number;
  readonly receivedBytesMax: number;
  /** Creates the reason of the abort; `waitedMs` is the deadline that has passed. */
  readonly toTimeout: (waitedMs: number) => Error;
  readonly toTooLarge: () => Error;
}

/**
 * The guard is a property of the signal. Entries of a WeakMap survive collections of the young generation, which took 5
 * % of a prompt's time.
 */
const GUARD = Symbol('guard');

export function createCallGuard(options: CallGuardOptions): CallGuard {
  const controller = new AbortController();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => undefined);
  let held = false;
  let closed = false;
  let receivedBytes = 0;
  let waitMs = options.firstByteMs;
  const abort = (reason: unknown): void => {
    controller.abort(reason);
    reject(reason);
  };
  const onSilence = (): void => {
    if (held) return void silence.refresh();
    const knownBytes = receivedBytes;
    // After the process was blocked or frozen, bytes may wait in the socket. setImmediate runs after they are read.
    setImmediate(() => {
      if (closed) return;
      if (held || receivedBytes > knownBytes) silence.refresh();
      else abort(options.toTimeout(waitMs));
    });
  };
  let silence = setTimeout(onSilence, waitMs);
  const total = setTimeout(() => abort(options.toTimeout(options.totalMs)), options.leftMs);
  // refresh() restarts a cleared timer, so no timer may be refreshed after the end of the call.
  const rearm = (): void => {
    if (!closed) silence.refresh();
  };
  const wait = (ms: number): void => {
    if (closed) return;
    clearTimeout(silence);
    waitMs = ms;
    silence = setTimeout(onSilence, ms);
  };
  const onCancel = (): void => abort(options.signal.reason);
  options.signal.addEventListener('abort', onCancel, { once: true });
  const guard: CallGuard = {
    signal: controller.signal,
    aborted,
    received(sizeBytes) {
      if (receivedBytes === 0) wait(options.idleMs);
      else rearm();
      receivedBytes += sizeBytes;
      if (receivedBytes > options.receivedBytesMax) abort(options.toTooLarge());
    },
    hold() {
      held = true;
    },
    release() {
      held = false;
      rearm();
    },
    finishing: () => wait(Math.min(DRAIN_MS, options.idleMs)),
    close(whole) {
      closed = true;
      clearTimeout(silence);
      clearTimeout(total);
      options.signal.removeEventListener('abort', onCancel);
      if (!whole) controller.abort();
    },
  };
  Reflect.set(controller.signal, GUARD, guard);
  return guard;
}

/** The guard of a signal; undefined if it has none. */
export function guardOf(signal: AbortSignal): CallGuard | undefined {
  return Reflect.get(signal, GUARD);
}
