// Normalises base URLs of providers: with or without the version, a trailing slash, or a query (`?api-version=x`) that
// is sent with every call.

/** The base URL with its version, without a trailing slash; a query stays at the end, a fragment is removed. */
export function toBaseUrl(url: string, version = 'v1'): string {
  const { path, query } = splitQuery(url.trim());
  const bare = path.replace(/\/+$/, '');
  return `${/\/v\d+[a-z0-9]*$/.test(bare) ? bare : `${bare}/${version}`}${query === '' ? '' : `?${query}`}`;
}

/** The base URL of a server with OpenAI's wire, as it is given; an address without a path gets `/v1`. */
export function toServerUrl(url: string): string {
  const { path, query } = splitQuery(url.trim());
  const bare = path.replace(/\/+$/, '');
  return `${/^https?:\/\/[^/]+$/i.test(bare) ? `${bare}/v1` : bare}${query === '' ? '' : `?${query}`}`;
}

/** `https://h/v1?a=b` -> `https://h/v1` and `a=b` ('' without a query). */
export function splitQuery(url: string): { readonly path: string; readonly query: string } {
  const [whole = ''] = url.split('#');
  const at = whole.indexOf('?');
  return at === -1 ? { path: whole, query: '' } : { path: whole.slice(0, at), query: whole.slice(at + 1) };
}

/** The URL of a call: `path`, which may have a query of its own, below a base URL whose query is kept. */
export function joinUrl(baseUrl: string, path: string): string {
  const base = splitQuery(baseUrl);
  return withQuery(`${base.path.replace(/\/+$/, '')}${path}`, base.query);
}

/** Adds a query to a URL that may have one. */
export function withQuery(url: string, query: string): string {
  if (query === '') return url;
  return `${url}${url.includes('?') ? '&' : '?'}${query}`;
}
