// The CodexHost port: where `codex app-server` runs, one for each owner and gateway process. Nothing that crosses it is
// a path, pid or descriptor of a machine, and no credential of a provider: what Codex requests of its provider is
// passed to the gateway process, which adds the credential.
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';

/**
 * Where Codex keeps its own files, and the caller's directory, as Codex sees them. Codex's own sandbox gives commands a
 * /dev of their own: what is below the outer one is out of their sight, without a rule that Codex would have to enforce
 * (and for which it starts two processes more per turn).
 */
export const CODEX_HOME = '/dev/shm/codex';
export const WORKSPACE = '/home/user';

/** The name of the only provider in Codex's configuration, whatever the account of a thread. */
export const PROVIDER = 'gateway';

/** The file of a thread (its rollout), below CODEX_HOME. Checked on both sides of the port. */
export const RolloutPath = z.string().regex(/^sessions\/\d{4}\/\d\d\/\d\d\/rollout-[\w.-]{1,128}\.jsonl$/);
/** A longer rollout is neither read nor written. */
export const ROLLOUT_BYTES_MAX = 48 << 20;

/** Names in lower case; a header that was sent twice has two values. */
export type ProviderHeaders = Readonly<Record<string, readonly string[]>>;

/** An HTTP request of Codex to its provider. Untrusted: nothing in it says who may be charged for it but its token. */
export interface ProviderRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: ProviderHeaders;
  /** Fails when Codex has closed its connection before the end of the body. */
  readonly body: Readable;
}

/** The answer, of which each byte is passed to Codex as it arrives. */
export interface ProviderAnswer {
  /** Call once, before the first byte of `body`. The headers are sent at once: the body may come much later. */
  writeHead(status: number, headers: ProviderHeaders): void;
  /** `destroy()` cuts the answer short. Emits `close` before `finish` when Codex has closed its connection. */
  readonly body: Writable;
}

export type ProviderListener = (request: ProviderRequest, answer: ProviderAnswer) => void;

/**
 * One turn's use of an app-server. The sessions of one gateway process with the same app-server have the same process
 * id, streams and listener; app-servers are never shared between gateway processes.
 */
export interface CodexSession {
  /** Identifies the app-server: threads that were loaded in another one are not in it. */
  readonly processId: string;
  /** Lines of Codex's protocol. The handshake (`initialize`, `initialized`, with the id 0) is over. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when all of its processes have ended and its files are removed. Never rejects. */
  readonly exited: Promise<unknown>;
  /**
   * Sets the listener of all requests of the app-server to its provider, the only exit of its network namespace.
   * Without one they are answered 503.
   */
  onRequest(listener: ProviderListener): void;
  /** `path` as RolloutPath. Undefined when there is no such file, or it is too long. */
  readRollout(path: string): Promise<Buffer | undefined>;
  /** Throws RpcError `conflict` where the file exists. */
  writeRollout(path: string, bytes: Uint8Array): Promise<void>;
  /** Call once, when the turn is over. */
  release(): void;
  /** Ends the app-server, for all sessions. Resolves as `exited` does. */
  end(): Promise<void>;
}

export interface CodexHost {
  /** What is missing for Codex to run there, for people, as far as that is known at this moment. */
  missing(): string | undefined;
  /** Prepares what every app-server needs at its start. Never throws; `open` does not wait for it. */
  warm(): Promise<void>;
  /**
   * Borrows the owner's app-server for one turn; starts it when needed. Throws RpcError `sandbox_unavailable`,
   * `invalid_params` about the model where Codex is not installed, `unavailable` when too many are busy or it does not
   * start; the signal's reason when it is aborted.
   */
  open(owner: string, signal: AbortSignal): Promise<CodexSession>;
}
