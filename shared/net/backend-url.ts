// Joins a caller's path to an operator's base URL so that the result cannot leave the base.
import { RpcError } from '../errors.ts';

/** A path that takes more rounds of percent-decoding than this is refused. */
const DECODINGS_MAX = 8;
/** Invalid UTF-8 that some servers decode to `.` or `/` (overlong forms), and `%uXXXX`, which old servers decode. */
const DISGUISED = /%c[01]%[89ab][\da-f]|%e0%[89][\da-f]%|%f0%8[\da-f]%|%u[\da-f]{4}/i;

/**
 * `https://api.example.com/base` + `/users?a=1` -> `https://api.example.com/base/users?a=1`. Throws RpcError
 * `invalid_params` for anything that is not a plain absolute path: a scheme or authority, a backslash, a control
 * character, `.` or `..` segments and encoded dots and slashes (`%2e`, `%2f`, `%5c`, encoded once or more often), which
 * servers and proxies resolve differently.
 */
export function toBackendUrl(baseUrl: string, endpoint: string): URL {
  const mark = endpoint.search(/[?#]/);
  const path = mark === -1 ? endpoint : endpoint.slice(0, mark);
  const query = mark === -1 || endpoint[mark] === '#' ? '' : endpoint.slice(mark).replace(/#.*$/s, '');
  if (!path.startsWith('/') || path.startsWith('//')) throw wrong('must be a path that starts with one slash');
  if (/[\\\p{Cc}]/u.test(endpoint)) throw wrong('must not contain backslashes or control characters');
  const problem = findPathProblem(path);
  if (problem !== undefined) throw wrong(problem);
  const base = new URL(baseUrl);
  const url = new URL(base);
  url.pathname = `${base.pathname.replace(/\/+$/, '')}${path}`;
  url.search = query;
  url.hash = '';
  if (!isBelow(base, url)) throw wrong('leaves the backend');
  return url;
}

/**
 * Whether `url` has the origin of `base`, is at or below its path, and is read the same way by every server on the way.
 */
export function isBelow(base: URL, url: URL): boolean {
  const prefix = base.pathname.replace(/\/+$/, '');
  if (url.origin !== base.origin || !`${url.pathname}/`.startsWith(`${prefix}/`)) return false;
  return findPathProblem(url.pathname.slice(prefix.length)) === undefined;
}

/** Characters that become a slash on servers with an old code page. */
const SLASHES = /[\\\u00a5\u20a9\u2044\u2215]/g;

/** Sequences in the path that one server decodes and another does not, for any number of decodings. */
function findPathProblem(path: string): string | undefined {
  let decoded = path;
  for (let round = 0; ; round++) {
    if (DISGUISED.test(decoded)) return 'must not contain encoded dots or slashes';
    if (/%(?:2f|5c|[01][\da-f]|7f)/i.test(decoded)) return 'must not contain encoded slashes or control characters';
    if (hasDots(decoded) || hasDots(toPlain(decoded))) return 'must not contain . or .. segments';
    const next = decoded.replaceAll(/%([\da-f]{2})/gi, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    if (next === decoded) return undefined;
    if (round === DECODINGS_MAX) return 'is encoded too often';
    decoded = next;
  }
}

function hasDots(path: string): boolean {
  return path.split('/').some((segment) => /^(?:\.|%2e){1,2}\s*$/i.test(segment.replace(/(?:;|%3b).*$/is, '')));
}

/** The path with full-width and other compatible characters replaced (`．．` is `..`), as some servers do. */
function toPlain(path: string): string {
  // After percent-decoding each character is one byte; otherwise the path contains Unicode characters.
  const isBytes = /^[\0-\xff]*$/.test(path);
  const text = isBytes ? Buffer.from(path, 'latin1').toString('utf8') : path;
  return text.normalize('NFKC').replace(SLASHES, '/');
}

function wrong(message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path: 'endpoint', message }] } });
}
