// Bounds of memory that fit the machine: caches and buffers of fixed size leave no room on a small one.
import { getHeapStatistics } from 'node:v8';

/** A part of the memory that V8 lets the heap of this process have, at most `bytesMax`. */
export function shareOfHeap(part: number, bytesMax: number): number {
  return Math.min(bytesMax, Math.floor(getHeapStatistics().heap_size_limit * part));
}
