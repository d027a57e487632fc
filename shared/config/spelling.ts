// Finds variables that look like misspelt ones of the gateway: a limit that is not applied or a key that is not used is
// else only noticed when it matters.

/** Other programs' or the machine's: too short, or too common, to be what another name was meant to be. */
const NEVER_MEANT = /^(?:PORT|HOST|HOME|PATH|K_SERVICE|\w*_PROXY)$/;
/** Ours, but read by other programs of this project: the command line, the functions-framework. */
const READ_ELSEWHERE: ReadonlySet<string> = new Set([
  'GATEWAY_URL',
  'GATEWAY_KEY',
  'FUNCTION_TARGET',
  'FUNCTION_SIGNATURE_TYPE',
]);
const PREFIX = 'GATEWAY_';
/** Names shorter than this may differ in one character, others in two. */
const LONG_NAME_CHARS = 8;

/** One line for each name that is not known but looks as if it should be; values are never shown. */
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
  // `model` and `mode` in small letters are others' variables.
  if (found === undefined || (name !== upper && found.known.length < LONG_NAME_CHARS)) return undefined;
  return found.known;
}

/** Whether `name` was probably meant to be `known`. */
export function isMisspelt(name: string, known: string): boolean {
  return distanceOf(name, known) <= allowance(known) || lacksOneWord(name, known);
}

function allowance(known: string): number {
  return known.length < LONG_NAME_CHARS ? 1 : 2;
}

/** `OPENAI_KEY` for `OPENAI_API_KEY`; the first word is the same. */
function lacksOneWord(name: string, known: string): boolean {
  const words = name.split('_');
  const all = known.split('_');
  if (words.length < 2 || words.length !== all.length - 1 || words[0] !== all[0]) return false;
  return all.some((_, index) => all.toSpliced(index, 1).join('_') === name);
}

/**
 * Edits from one to the other: insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
 */
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
