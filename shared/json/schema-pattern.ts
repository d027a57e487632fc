// Converts the pattern of a JSON Schema to a regular expression with the flag `u`, which validators use. Patterns that
// are valid only without it are common: `\\-` or `\\_` for a character that needs no escape, a brace that begins no
// quantifier.

/** Undefined if it is a regular expression neither with the flag nor after its escapes are mended. */
export function toUnicodePattern(pattern: string): string | undefined {
  if (isExpression(pattern)) return pattern;
  let isInClass = false;
  const mended = pattern.replace(/\\.|\{\d+(?:,\d*)?\}|[[\]{}]/gs, (token) => {
    const [first = '', escaped = ''] = token;
    if (first === '\\') return isNeeded(escaped, isInClass) ? token : escaped;
    if (token.length > 1) return token;
    if (isInClass) isInClass = token !== ']';
    else if (token === '[') isInClass = true;
    else return `\\${token}`;
    return token;
  });
  return isExpression(mended) ? mended : undefined;
}

/** Letters and digits keep their escape: with one they mean something else, or nothing that is valid. */
function isNeeded(character: string, isInClass: boolean): boolean {
  return /[a-z0-9^$\\.*+?()[\]{}|/]/i.test(character) || (character === '-' && isInClass);
}

function isExpression(pattern: string): boolean {
  try {
    new RegExp(pattern, 'u');
    return true;
  } catch {
    return false;
  }
}
