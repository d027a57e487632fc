// Time and identity as ports, so that rules about windows, leases and expiry can be tested with a clock that stands still.
import { randomBytes } from 'node:crypto';

/** Wall clock in epoch milliseconds. */
export interface Clock {
  now(): number;
}

/** Source of unguessable identifiers: `next('turn')` -> `turn_` + 128 random bits, base64url. */
export interface Ids {
  next(prefix: string): string;
}

export const systemClock: Clock = { now: Date.now };

export const randomIds: Ids = { next: (prefix) => `${prefix}_${randomBytes(16).toString('base64url')}` };
