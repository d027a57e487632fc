// Measures a phase of a turn.
import type { Span } from '../../../telemetry/timings.ts';

export async function timed<R>(spans: Span[], phase: Span['phase'], work: () => Promise<R>): Promise<R> {
  const startMs = performance.now();
  try {
    return await work();
  } finally {
    spans.push({ phase, startMs, endMs: performance.now() });
  }
}
