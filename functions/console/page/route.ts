// The route of the page is its URL hash, so that a reload and the browser's history keep it.
import { randomId } from '../../../shared/client/random-id.ts';
import { createValue, type Value } from '../view.ts';

export type Route =
  | { readonly page: 'chat'; readonly sessionId: string }
  | { readonly page: 'terminal' | 'events' }
  | { readonly page: 'methods'; readonly method: string | undefined };

export function newSessionId(): string {
  return `web-${randomId().slice(0, 12)}`;
}

/** Follows the hash of the page. A chat without a session starts a new one. */
export function watchRoute(): Value<Route> {
  const route = createValue(read());
  window.addEventListener('hashchange', () => route.set(read()));
  return route;
}

function read(): Route {
  const [page, rest] = location.hash.replace(/^#\//, '').split('/', 2);
  const detail = decode(rest ?? '');
  if (page === 'terminal' || page === 'events') return { page };
  if (page === 'methods') return { page, method: detail || undefined };
  const sessionId = detail || newSessionId();
  if (detail === '') history.replaceState(null, '', `#/chat/${sessionId}`);
  return { page: 'chat', sessionId };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
