// The root of the page: sign-in, header, banners and the page of the route.
import { type ComponentChild, type ComponentChildren, h } from 'preact';
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { GatewayError } from '../../shared/client/gateway-error.ts';
import { Chat } from './chat/chat.ts';
import { EventsPage } from './events/events.ts';
import { type Client, openClient } from './gateway/client.ts';
import { toFailure } from './gateway/failure.ts';
import { Methods } from './methods/methods.ts';
import { Gauges } from './page/gauges.ts';
import { Banners } from './page/notice.ts';
import { type Route, watchRoute } from './page/route.ts';
import { KeptKey, SignIn } from './page/sign-in.ts';
import { TerminalPage } from './terminal/terminal.ts';
import { el, useValue } from './view.ts';

const KEY = 'gateway-key';
const PAGES = [
  ['chat', 'Chat'],
  ['terminal', 'Terminal'],
  ['events', 'Events'],
  ['methods', 'Methods'],
] as const;

export function App(): ComponentChild {
  const [client, setClient] = useState<Client>();
  const [busy, setBusy] = useState(sessionStorage.getItem(KEY) !== null);
  const [failure, setFailure] = useState<GatewayError>();
  const signOut = useCallback((why?: GatewayError) => {
    sessionStorage.removeItem(KEY);
    setClient((open) => void open?.close());
    setFailure(why);
  }, []);
  const signIn = useCallback(
    async (key: string) => {
      setBusy(true);
      setFailure(undefined);
      try {
        const invalid = new GatewayError({ reason: 'unauthorized', message: 'This key is no longer valid' });
        setClient(await openClient(key, () => signOut(invalid)));
        sessionStorage.setItem(KEY, key);
      } catch (error) {
        const why = toFailure(error);
        if (why.reason === 'unauthorized') sessionStorage.removeItem(KEY);
        setFailure(why);
      }
      setBusy(false);
    },
    [signOut],
  );
  useEffect(() => {
    const kept = sessionStorage.getItem(KEY);
    if (kept !== null) void signIn(kept);
  }, [signIn]);
  if (client !== undefined) return h(Shell, { client, onSignOut: () => signOut() });
  // A kept key was valid, so the failure is temporary: the form would discard the key.
  const kept = sessionStorage.getItem(KEY);
  if (kept === null) return h(SignIn, { busy, failure, onKey: (key) => void signIn(key) });
  return h(KeptKey, { failure, onRetry: () => void signIn(kept), onSignOut: () => signOut() });
}

function Shell({ client, onSignOut }: { client: Client; onSignOut: () => void }): ComponentChild {
  const route = useValue(useMemo(watchRoute, []));
  const link = useValue(client.link);
  useEffect(() => {
    document.title = `${PAGES.find(([page]) => page === route.page)?.[1]} - Codex Gateway`;
  }, [route]);
  return el(
    'div',
    { class: 'shell' },
    el('a', { class: 'skip', href: '#content', onClick: skip }, 'Skip to content'),
    el(
      'header',
      null,
      el('strong', { class: 'brand' }, 'Codex Gateway'),
      el(
        'nav',
        { 'aria-label': 'Pages' },
        ...PAGES.map(([page, title]) =>
          el('a', { href: `#/${page}`, 'aria-current': route.page === page ? 'page' : undefined }, title),
        ),
      ),
      h(Gauges, { client }),
      el(
        'span',
        { class: `link-state ${link}`, title: 'The WebSocket, for streams and live events' },
        { open: 'live', connecting: 'connecting', reconnecting: 'reconnecting', absent: 'HTTP only' }[link],
      ),
      el(
        'button',
        { type: 'button', class: 'small', title: `Signed in as ${client.keyId}`, onClick: onSignOut },
        'Sign out',
      ),
    ),
    h(Banners, { client }),
    el('main', { id: 'content', tabIndex: -1 }, toPage(route, client)),
  );
}

function toPage(route: Route, client: Client): ComponentChildren {
  switch (route.page) {
    case 'chat':
      return h(Chat, { client, sessionId: route.sessionId });
    case 'terminal':
      return h(TerminalPage, { client });
    case 'events':
      return h(EventsPage, { client });
    case 'methods':
      return h(Methods, { client, selected: route.method });
  }
}

/** The hash is the route: the link must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}
