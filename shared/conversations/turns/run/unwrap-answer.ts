// Providers require a schema with an object at its root. The answer to another schema is a member of an object
// (output-schema.ts): its text is taken out of the object while it arrives, so that readers receive the answer itself.
import { WRAPPED } from '../../../json/output-schema.ts';

const BEGINNING = new RegExp(`\\{\\s*"${WRAPPED}"\\s*:\\s*`);
/** What may follow the answer: the end of the object, and of a code block around it. */
const OF_END = /[\s}`]/;
/** Some models write white space until their output ends, so it is not read again with each delta. */
const PART_CHARS_MAX = 1_024;

export interface Unwrapper {
  /** Returns the part of the answer that is certain by now. */
  add(text: string): string;
  /** The rest, at the end of the answer. */
  end(): string;
}

export function createUnwrapper(): Unwrapper {
  let isInside = false;
  let held = '';
  /** `before`: what may be the end, unless `text` continues the answer. */
  const pass = (text: string, before: string): string => {
    let end = text.length;
    while (end > 0 && OF_END.test(text.charAt(end - 1))) end--;
    held = end === 0 ? before + text : text.slice(end);
    return end === 0 ? '' : before + text.slice(0, end);
  };
  return {
    add(text) {
      if (isInside) return pass(text, held);
      held += text;
      const found = BEGINNING.exec(held);
      const from = found?.index ?? partAt(held);
      const out = held.slice(0, from);
      held = held.slice(from + (found?.[0].length ?? 0));
      isInside = found !== null;
      return isInside ? out + pass(held, '') : out;
    },
    end() {
      const at = held.lastIndexOf('}');
      const rest = isInside && at !== -1 ? held.slice(0, at) + held.slice(at + 1) : held;
      held = '';
      return rest;
    },
  };
}

/** Index of an incomplete beginning of the object at the end of the text; the length of the text if there is none. */
function partAt(text: string): number {
  const from = text.lastIndexOf('{');
  const isPart =
    from !== -1 &&
    text.length - from <= PART_CHARS_MAX &&
    `{"${WRAPPED}":`.startsWith(text.slice(from).replaceAll(/\s/g, ''));
  return isPart ? from : text.length;
}
