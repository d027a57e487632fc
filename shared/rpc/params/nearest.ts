// Finds the known name that is most similar to an unknown one.

/** Longer names are not compared: the work grows with the square of the length. */
const CHARS_MAX = 64;

/**
 * The most similar of `names`, or undefined when none is similar: equal except for case and separators (`sessionId` for
 * `session_id`), or within one edit per three characters and two edits in total.
 */
export function nearest(name: string, names: readonly string[]): string | undefined {
  if (name.length > CHARS_MAX) return undefined;
  const plain = toPlain(name);
  let best: string | undefined;
  let bestEdits = Math.min(2, Math.floor(plain.length / 3)) + 1;
  for (const candidate of names) {
    const edits = countEdits(plain, toPlain(candidate));
    if (edits >= bestEdits) continue;
    best = candidate;
    bestEdits = edits;
  }
  return best;
}

function toPlain(name: string): string {
  return name.toLowerCase().replaceAll(/[_\-.\s]/g, '');
}

/** Levenshtein distance, one row of the table at a time. */
function countEdits(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
