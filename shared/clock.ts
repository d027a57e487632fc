// Time and identity as ports, so that rules about windows, leases and expiry can be tested with a clock that stands still.
import { randomUUID } from 'node:crypto';

/** Wall clock in epoch milliseconds. */
export interface Clock {
  now(): number;
}

/** Source of unguessable identifiers: `next('turn')` -> `turn_` + 32 hex digits (122 random bits). */
export interface Ids {
  next(prefix: string): string;
}

export const systemClock: Clock = { now: Date.now };

/** randomUUID draws from a pool: 0.1 us, where randomBytes(16) takes more than 1. */
export const randomIds: Ids = { next: (prefix) => `${prefix}_${randomUUID().replaceAll('-', '')}` };
