// Joins a caller's path to an operator's base URL so that the result cannot leave it.
import { RpcError } from '../errors.ts';

/**
 * `https://api.example.com/base` + `/users?a=1` -> `https://api.example.com/base/users?a=1`. Throws RpcError `invalid_params` for anything
 * that is not a plain absolute path: a scheme or authority, a backslash, a control character, `.` or `..` segments and slashes in disguise
 * (`%2e`, `%2f`, `%5c`), which servers and proxies resolve differently.
 */
export function toBackendUrl(baseUrl: string, endpoint: string): URL {
  const mark = endpoint.search(/[?#]/);
  const path = mark === -1 ? endpoint : endpoint.slice(0, mark);
  const query = mark === -1 || endpoint[mark] === '#' ? '' : endpoint.slice(mark).replace(/#.*$/s, '');
  if (!path.startsWith('/') || path.startsWith('//')) throw wrong('must be a path that starts with one slash');
  if (/[\\\p{Cc}]/u.test(endpoint)) throw wrong('must not contain backslashes or control characters');
  if (/%(?:2f|5c|00)/i.test(path)) throw wrong('must not contain encoded slashes');
  if (path.split('/').some((segment) => /^(?:\.|%2e){1,2}$/i.test(segment.replace(/;.*$/s, '')))) {
    throw wrong('must not contain . or .. segments');
  }
  const base = new URL(baseUrl);
  const url = new URL(base);
  url.pathname = `${base.pathname.replace(/\/+$/, '')}${path}`;
  url.search = query;
  url.hash = '';
  const prefix = base.pathname.replace(/\/+$/, '');
  if (url.origin !== base.origin || !`${url.pathname}/`.startsWith(`${prefix}/`)) throw wrong('leaves the backend');
  return url;
}

function wrong(message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path: 'endpoint', message }] } });
}
