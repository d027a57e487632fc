// Waiting as a port, so that tests and the simulation of the limiter run in virtual time.
import { pause } from '../../async.ts';

export interface Timers {
  /** Runs `work` after the requests that this iteration of the event loop has parsed. */
  soon(work: () => void): void;
  /** Runs `work` after `delayMs`; does not keep the process alive. */
  after(delayMs: number, work: () => void): void;
  pause(delayMs: number, signal?: AbortSignal): Promise<void>;
  /** 0 <= x < 1. */
  random(): number;
}

export const systemTimers: Timers = {
  soon: (work) => void setImmediate(work),
  after: (delayMs, work) => void setTimeout(work, delayMs).unref(),
  pause,
  random: () => Math.random(),
};
