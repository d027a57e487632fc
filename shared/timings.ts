// Where the time of one request went: spans by phase, the model's apart from ours. One object per request, read when it
// is answered.

export type Phase = 'limit' | 'admission' | 'model' | 'settle';

/** Readings of `performance.now()`. */
export interface Span {
  readonly phase: Phase;
  readonly startMs: number;
  readonly endMs: number;
}

export interface Timings {
  add(span: Span): void;
  /** Milliseconds since the request began, less those in which a model was at work for it. */
  overheadMs(): number;
  /** Milliseconds by phase, for the log line; undefined when there are none. Stages of a batch's calls add up. */
  stages(): Readonly<Record<string, number>> | undefined;
}

/** `startMs`: the reading of `performance.now()` at which the request began. */
export function createTimings(startMs = performance.now()): Timings {
  const spans: Span[] = [];
  return {
    add: (span) => void spans.push(span),
    overheadMs: () =>
      round(
        performance.now() -
          startMs -
          covered(
            spans.filter(({ phase }) => phase === 'model'),
            startMs,
          ),
      ),
    stages() {
      if (spans.length === 0) return undefined;
      const stages: Record<string, number> = {};
      for (const span of spans) stages[span.phase] = round((stages[span.phase] ?? 0) + span.endMs - span.startMs);
      return stages;
    },
  };
}

/**
 * Length of the union from `fromMs` on: the models of a batch answer at the same time, and a duplicate's began before
 * it came.
 */
function covered(spans: readonly Span[], fromMs: number): number {
  let totalMs = 0;
  let untilMs = fromMs;
  for (const { startMs, endMs } of spans.toSorted((a, b) => a.startMs - b.startMs)) {
    totalMs += Math.max(0, endMs - Math.max(startMs, untilMs));
    untilMs = Math.max(untilMs, endMs);
  }
  return totalMs;
}

function round(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
