// Measures the phases of one request, and separates the time of the model from that of the gateway. One object per
// request, read when the response is sent.

export type Phase = 'limit' | 'admission' | 'model' | 'settle';

/** Readings of `performance.now()`. */
export interface Span {
  readonly phase: Phase;
  readonly startMs: number;
  readonly endMs: number;
}

export interface Timings {
  add(span: Span): void;
  /** Milliseconds since the start of the request, minus the time during which a model was generating. */
  overheadMs(): number;
  /** Milliseconds since the start of the request during which a model was generating. */
  modelMs(): number;
  /**
   * Milliseconds by phase, for the log line; undefined when there are none. The phases of the calls of a batch are
   * added.
   */
  phases(): Readonly<Record<string, number>> | undefined;
}

/** `startMs`: the reading of `performance.now()` at which the request began. */
export function createTimings(startMs = performance.now()): Timings {
  const spans: Span[] = [];
  const modelMs = (): number =>
    covered(
      spans.filter(({ phase }) => phase === 'model'),
      startMs,
    );
  return {
    add: (span) => void spans.push(span),
    overheadMs: () => round(performance.now() - startMs - modelMs()),
    modelMs: () => round(modelMs()),
    phases() {
      if (spans.length === 0) return undefined;
      const phases: Record<string, number> = {};
      for (const span of spans) phases[span.phase] = round((phases[span.phase] ?? 0) + span.endMs - span.startMs);
      return phases;
    },
  };
}

/**
 * Length of the union of the spans after `fromMs`: the models of a batch run at the same time, and the model of a
 * repeated request started before that request.
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
