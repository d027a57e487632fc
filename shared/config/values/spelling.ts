// Finds environment variables that look like misspelt variables of the gateway, for a warning at start: an ignored
// limit or key would otherwise stay unnoticed.

/** Known names that are never suggested: they are too short or too common. */
const NEVER_MEANT = /^(?:PORT|HOST|HOME|PATH|K_SERVICE|K_REVISION|\w*_PROXY)$/;
/** Variables that other programs read: the command line of this project, the functions-framework. */
const READ_ELSEWHERE: ReadonlySet<string> = new Set([
  'GATEWAY_URL',
  'GATEWAY_KEY',
  'FUNCTION_TARGET',
  'FUNCTION_SIGNATURE_TYPE',
]);
const PREFIX = 'GATEWAY_';
/** Shorter names may differ in one character, others in two. */
const LONG_NAME_CHARS = 8;

/** One message for each unknown name that looks like a known one; contains no values. */
export function findMisspelt(names: readonly string[], known: readonly string[]): string[] {
  const candidates = known.filter((name) => !NEVER_MEANT.test(name));
  return names.flatMap((name) => {
    if (known.includes(name) || READ_ELSEWHERE.has(name)) return [];
    const meant = nearest(name, candidates);
    if (meant !== undefined) return [`${name} is not a variable of the gateway and is ignored; did you mean ${meant}?`];
    return name.toUpperCase().startsWith(PREFIX) ? [`${name} is not a variable of the gateway and is ignored`] : [];
  });
}

function nearest(name: string, candidates: readonly string[]): string | undefined {
  const upper = name.toUpperCase();
  const found = candidates
    .map((known) => ({ known, distance: distanceOf(upper, known) }))
    .filter(({ known }) => isMisspelt(upper, known))
    .sort((one, two) => one.distance - two.distance)[0];
  // Short lower-case names such as `model` and `mode` belong to other programs.
  if (found === undefined || (name !== upper && found.known.length < LONG_NAME_CHARS)) return undefined;
  return found.known;
}

/** Whether `name` is probably a misspelt `known`. */
export function isMisspelt(name: string, known: string): boolean {
  return distanceOf(name, known) <= allowance(known) || lacksOneWord(name, known);
}

function allowance(known: string): number {
  return known.length < LONG_NAME_CHARS ? 1 : 2;
}

/** Whether `name` is `known` without one word other than the first: `OPENAI_KEY` for `OPENAI_API_KEY`. */
function lacksOneWord(name: string, known: string): boolean {
  const words = name.split('_');
  const all = known.split('_');
  if (words.length < 2 || words.length !== all.length - 1 || words[0] !== all[0]) return false;
  return all.some((_, index) => all.toSpliced(index, 1).join('_') === name);
}

/** Edit distance: insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
function distanceOf(one: string, two: string): number {
  if (Math.abs(one.length - two.length) > 2) return Number.POSITIVE_INFINITY;
  let before: number[] = [];
  let last = Array.from({ length: two.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row++) {
    const now = [row];
    for (let column = 1; column <= two.length; column++) {
      const isSame = one[row - 1] === two[column - 1];
      const isSwap = row > 1 && column > 1 && one[row - 1] === two[column - 2] && one[row - 2] === two[column - 1];
      now[column] = Math.min(
        (last[column] ?? 0) + 1,
        (now[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (isSame ? 0 : 1),
        isSwap ? (before[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    before = last;
    last = now;
  }
  return last[two.length] ?? 0;
}
