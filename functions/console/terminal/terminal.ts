// The terminal page: xterm.js on an interactive session. xterm.js is loaded when the page is opened.
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import '@xterm/xterm/css/xterm.css';
import { type ComponentChild, h } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import { Empty, FailureNotice, Loading } from '../page/notice.ts';
import { el, useValue } from '../view.ts';
import { TerminalSession } from './terminal-session.ts';

export function TerminalPage({ client }: { client: Client }): ComponentChild {
  const link = useValue(client.link);
  if (link === 'absent') {
    return h(Empty, {
      title: 'Terminal not available',
      text: 'A terminal needs the WebSocket, which cannot be reached at this address.',
    });
  }
  return h(Screen, { client });
}

function Screen({ client }: { client: Client }): ComponentChild {
  const session = useMemo(() => new TerminalSession(client), [client]);
  const { phase, failure, exitCode } = useValue(session.state);
  const [notLoaded, setNotLoaded] = useState<GatewayError>();
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (host.current === null) return;
    const unmounted = new AbortController();
    attach(host.current, unmounted.signal).catch((error: unknown) => setNotLoaded(toFailure(error)));
    return () => {
      unmounted.abort();
      session.leave();
    };
  }, [session]);

  async function attach(element: HTMLElement, signal: AbortSignal): Promise<void> {
    const { openScreen } = await import('./screen.ts');
    if (signal.aborted) return;
    const screen = openScreen(element, {
      onInput: (data) => session.input(data),
      onResize: () => session.resize(),
    });
    signal.addEventListener('abort', () => screen.close());
    await session.start(screen);
  }

  // A module whose import failed cannot be imported again in this page.
  if (notLoaded) return h(FailureNotice, { failure: notLoaded, onRetry: () => location.reload() });
  return el(
    'section',
    { class: 'terminal-page', 'aria-label': 'Terminal' },
    phase === 'starting' && h(Loading, { what: 'the terminal' }),
    failure && h(FailureNotice, { failure, onRetry: () => void session.restart() }),
    phase === 'ended' &&
      el(
        'p',
        { class: 'notice' },
        `The shell has ended${exitCode === null ? '' : ` with ${exitCode}`}. `,
        el('button', { type: 'button', onClick: () => void session.restart() }, 'Start another'),
      ),
    el('div', { class: 'screen', ref: host, 'data-phase': phase }),
    phase !== 'failed' &&
      el(
        'p',
        { class: 'quiet' },
        'The shell runs in this key’s sandbox, without network. Ctrl+Shift+E moves the focus out of the terminal.',
      ),
    phase !== 'failed' &&
      el(
        'button',
        { type: 'button', class: 'small', disabled: phase !== 'running', onClick: () => void session.end() },
        'End the shell',
      ),
  );
}
