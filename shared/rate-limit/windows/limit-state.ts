// The content of the document of a key as the arithmetic uses it: windows, blocks and the revoke flag.

import type { WindowCount } from './window-labels.ts';

/** A label of a stored window. */
export type WindowLabel = Pick<WindowCount, 'window_ms' | 'start_ms'>;

/** A block as stored: `calls` is an upper bound of what its holder has not used. */
export interface Block {
  readonly id: string;
  readonly calls: number;
  /** End of its life by the clock of its holder, epoch milliseconds. */
  readonly until_ms: number;
  /** The labels in which it was counted. */
  readonly windows: readonly WindowLabel[];
}

/** An instance that counts in blocks. */
export interface Holder {
  readonly id: string;
  /** Calls a second of the owner on this instance. */
  readonly rate: number;
  /** Its last commit by its own clock, epoch milliseconds. */
  readonly seen_ms: number;
  readonly blocks: readonly Block[];
}

/** The last erasure of all documents of a key, and the tokens that the key had used on that UTC day. */
export interface Erased {
  readonly at_ms: number;
  readonly day: string;
  readonly tokens: number;
}

/** The content of the document of a key. */
export interface LimitState {
  readonly windows: readonly WindowCount[];
  /** True: every call of the key is refused. */
  readonly revoked: boolean;
  /** The instances that count calls of this key in blocks. Absent where none did. */
  readonly holders?: readonly Holder[];
  /** What is kept when all documents of the key are erased. */
  readonly erased?: Erased;
}

export const EMPTY_STATE: LimitState = { windows: [], revoked: false };
