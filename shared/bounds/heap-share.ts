// Memory limits relative to the machine, because caches and buffers of a fixed size could exhaust a small one.
import { getHeapStatistics } from 'node:v8';

/** `part` (0 to 1) of V8's heap limit for this process in bytes, at most `bytesMax`. */
export function shareOfHeap(part: number, bytesMax: number): number {
  return Math.min(bytesMax, Math.floor(getHeapStatistics().heap_size_limit * part));
}
