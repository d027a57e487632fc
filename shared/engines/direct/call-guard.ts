// Deadlines and bounds of one HTTP call to a provider, all ending in one AbortSignal. Bytes are counted below the SDK:
// it passes on none of the keep-alive events that show that the provider is working.
export interface Deadlines {
  /** From the start of a call to the first byte of its answer, credentials and connecting included. */
  readonly firstByteMs: number;
  /** Longest silence within an answer. Reasoning models may send nothing for a minute. */
  readonly idleMs: number;
  /** The whole turn, retries included. */
  readonly totalMs: number;
}

/**
 * After the provider's end marker the body is read to its end for so long, so that the connection can be used again.
 */
const DRAIN_MS = 250;

export interface CallGuard {
  /** What the HTTP request is bound to. */
  readonly signal: AbortSignal;
  /** Rejects with the signal's reason, for work that does not listen to signals itself. */
  readonly aborted: Promise<never>;
  /** Bytes of the answer arrived. */
  received(sizeBytes: number): void;
  /** The reader of the events is busy: its slowness is not the provider's silence. */
  hold(): void;
  release(): void;
  /** The end marker was seen; what follows must be short. */
  finishing(): void;
  /** Drops the timers, and aborts the call unless it was read to its end: an abort costs an error with its stack. */
  close(whole: boolean): void;
}

export interface CallGuardOptions {
  /** The caller's signal. */
  readonly signal: AbortSignal;
  readonly firstByteMs: number;
  readonly idleMs: number;
  /** Of the whole turn, which may be several calls; the error names it. */
  readonly totalMs: number;
  /** What is left of it. */
  readonly leftMs: number;
  readonly receivedBytesMax: number;
  /** Makes the reason of the abort; `waitedMs` is the deadline that passed. */
  readonly toTimeout: (waitedMs: number) => Error;
  readonly toTooLarge: () => Error;
}

/**
 * On the signal itself: what a WeakMap holds outlives the collections of the young generation (a twentieth of a
 * prompt's time).
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
    // After a stall of this process (a busy loop, a frozen instance) bytes may be waiting to be read: they are, before
    // this runs.
    setImmediate(() => {
      if (closed) return;
      if (held || receivedBytes > knownBytes) silence.refresh();
      else abort(options.toTimeout(waitMs));
    });
  };
  let silence = setTimeout(onSilence, waitMs);
  const total = setTimeout(() => abort(options.toTimeout(options.totalMs)), options.leftMs);
  // A cleared timer that is refreshed runs again: nothing may be armed once the call is over.
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

/** The guard of a signal that has one. */
export function guardOf(signal: AbortSignal): CallGuard | undefined {
  return Reflect.get(signal, GUARD);
}
