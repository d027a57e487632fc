// Names of files in a patch: C-quoted or bare, with their first component stripped, and never leading out of the repository.
import { isUtf8 } from 'node:buffer';
import { patchIssue } from './patch-issue.ts';

const PATH_BYTES_MAX = 1024;
const ESCAPES: Readonly<Record<string, number>> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13, '"': 34, '\\': 92 };

/** A name as git writes it: `"a/\303\244.txt"` or bare; what follows a tab (a timestamp) is no part of it. */
export function readName(text: string, at: number): string {
  if (!text.startsWith('"')) return text.replace(/\r$/, '').split('\t', 1)[0] ?? '';
  const quoted = /^"((?:[^"\\]|\\.)*)"(?:\t.*)?\r?$/.exec(text)?.[1];
  if (quoted === undefined) throw patchIssue('a quoted name does not end', at);
  const bytes: Buffer[] = [];
  for (const [part, octal, letter] of quoted.matchAll(/\\([0-3][0-7]{2})|\\(.)|[^\\]+/gu)) {
    const code = octal !== undefined ? Number.parseInt(octal, 8) : letter !== undefined ? ESCAPES[letter] : undefined;
    if (part.startsWith('\\') && code === undefined) throw patchIssue('a quoted name has an unknown escape', at);
    bytes.push(code === undefined ? Buffer.from(part) : Buffer.of(code));
  }
  const name = Buffer.concat(bytes);
  if (!isUtf8(name)) throw patchIssue('a name is not UTF-8', at);
  return name.toString();
}

/** `a/src/x` -> `src/x`; undefined for /dev/null. Throws for a name that leads elsewhere or into `.git`. */
export function stripPrefix(name: string, at: number): string | undefined {
  if (name === '/dev/null') return undefined;
  if (name.startsWith('/')) throw patchIssue('must not name absolute paths', at);
  const slash = name.indexOf('/');
  if (slash === -1) throw patchIssue('must name files as a/PATH and b/PATH', at);
  const path = name.slice(slash + 1);
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) throw patchIssue('has a path that is too long', at);
  if (/\p{Cc}/u.test(path)) throw patchIssue('has a path with control characters', at);
  for (const component of path.split('/')) {
    if (component === '' || component === '.') throw patchIssue('has a path with an empty component', at);
    if (component === '..') throw patchIssue('must not name paths with ".."', at);
    // Names that some file systems take for it as well.
    if (/^(\.git|git~\d+)[ .]*$/i.test(component.replace(/\p{Cf}/gu, '')) || /^\.git[ .]*:/i.test(component)) {
      throw patchIssue('must not touch .git', at);
    }
  }
  return path;
}
