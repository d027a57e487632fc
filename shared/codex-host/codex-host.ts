// The CodexHost port: runs `codex app-server` processes, one for each owner and gateway process. It contains no path,
// pid or descriptor of a machine, and no credential of a provider: requests of Codex to its provider are passed to the
// gateway process, which adds the credential.
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';

/**
 * The directory of Codex's own files, and that of the caller, as paths in the sandbox. Codex's files are below /dev
 * because Codex's own sandbox mounts another /dev for commands, so they cannot access these files. A permission rule
 * would do the same, but Codex starts two more processes per turn to enforce it.
 */
export const CODEX_HOME = '/dev/shm/codex';
export const WORKSPACE = '/home/user';

/** The name of the only provider in Codex's configuration. It is the same for all accounts. */
export const PROVIDER = 'gateway';

/** Path of the file of a thread (its rollout) below CODEX_HOME. It is validated on both sides of the port. */
export const RolloutPath = z.string().regex(/^sessions\/\d{4}\/\d\d\/\d\d\/rollout-[\w.-]{1,128}\.jsonl$/);
/** Maximum size of a rollout that is read or written. */
export const ROLLOUT_BYTES_MAX = 48 << 20;

/** Header names are in lower case. A header that was sent twice has two values. */
export type ProviderHeaders = Readonly<Record<string, readonly string[]>>;

/** An HTTP request of Codex to its provider. It is untrusted: only its token may decide who is charged for it. */
export interface ProviderRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: ProviderHeaders;
  /** Fails when Codex has closed its connection before the end of the body. */
  readonly body: Readable;
}

/** The response to Codex. Its bytes are passed on as they arrive. */
export interface ProviderAnswer {
  /**
   * Call it once, before the first byte of `body`. The headers are sent immediately, because the body may come much
   * later.
   */
  writeHead(status: number, headers: ProviderHeaders): void;
  /** `destroy()` aborts the response. Emits `close` before `finish` when Codex has closed its connection. */
  readonly body: Writable;
}

export type ProviderListener = (request: ProviderRequest, answer: ProviderAnswer) => void;

/**
 * The use of an app-server by one turn. All sessions of a gateway process with the same app-server have the same
 * process id, streams and listener. Gateway processes never share an app-server.
 */
export interface CodexSession {
  /** Identifies the app-server. Threads that another app-server has loaded are not loaded in this one. */
  readonly processId: string;
  /** Streams with lines of Codex's protocol. The handshake (`initialize` with the id 0, `initialized`) is complete. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * Resolves when all of its processes have ended and its files are removed. Never rejects. `failure`: what ended them,
   * when it was not Codex: the error of turns that run.
   */
  readonly exited: Promise<{ readonly failure?: Error }>;
  /**
   * Sets the listener for all requests of the app-server to its provider; the app-server has no other network access.
   * Without a listener, the response is 503.
   */
  onRequest(listener: ProviderListener): void;
  /** `path` must match RolloutPath. Undefined if the file does not exist or is too large. */
  readRollout(path: string): Promise<Buffer | undefined>;
  /** Throws RpcError `conflict` if the file exists. */
  writeRollout(path: string, bytes: Uint8Array): Promise<void>;
  /** Call it once, when the turn is over. */
  release(): void;
  /** Ends the app-server for all sessions. Resolves when `exited` does. */
  end(): Promise<void>;
}

export interface CodexHost {
  /** Why Codex cannot run, as text for people; undefined: no reason is known at this moment. */
  missing(): string | undefined;
  /** Prepares files that every app-server needs at its start. Never throws. `open` does not wait for it. */
  warm(): Promise<void>;
  /**
   * Borrows the owner's app-server for one turn; starts it if needed. Throws RpcError `sandbox_unavailable`,
   * `invalid_params` for the model if Codex is not installed, `unavailable` when too many turns run or it does not
   * start, and the signal's reason when it aborts.
   */
  open(owner: string, signal: AbortSignal): Promise<CodexSession>;
}
