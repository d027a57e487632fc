// The form for the key, or the wait until the stored key is accepted. It is checked with the gateway and kept in
// sessionStorage, which the browser erases with the tab.
import { h, type VNode } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { LOCAL_KEY } from '../../../shared/protocol.ts';
import { el, toSpan, useNow } from '../view.ts';
import { FailureNotice, Loading } from './notice.ts';

/** Delay of a retry where the gateway sent none. */
const RETRY_MS = 5_000;
const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];

export function SignIn(props: {
  busy: boolean;
  failure: GatewayError | undefined;
  onKey: (key: string) => void;
}): VNode {
  const [key, setKey] = useState('');
  const isLocal = LOOPBACK.includes(location.hostname);
  return el(
    'main',
    { class: 'sign-in' },
    el(
      'form',
      {
        onSubmit: (event) => {
          event.preventDefault();
          props.onKey(key.trim());
        },
      },
      el('h1', null, 'Codex Gateway'),
      el('p', { class: 'quiet' }, 'Chat, terminal, events and every method, with one key.'),
      el('label', { for: 'key' }, 'API key'),
      el('input', {
        id: 'key',
        type: 'password',
        required: true,
        autocomplete: 'off',
        spellcheck: false,
        autofocus: true,
        value: key,
        onInput: (event) => setKey(event.currentTarget.value),
      }),
      el('button', { type: 'submit', class: 'primary', disabled: props.busy }, props.busy ? 'Checking …' : 'Sign in'),
      props.failure && h(FailureNotice, { failure: props.failure }),
      isLocal &&
        el(
          'p',
          { class: 'quiet' },
          'On this machine, unless you set another: ',
          el('button', { type: 'button', class: 'link', onClick: () => props.onKey(LOCAL_KEY) }, `use ${LOCAL_KEY}`),
        ),
      el('p', { class: 'quiet' }, 'The key is kept in this tab and erased when the tab closes.'),
    ),
  );
}

/**
 * Shown until the stored key is accepted. After a failure that the key did not cause it retries: after the delay that
 * the gateway sent, else after RETRY_MS.
 */
export function KeptKey(props: {
  failure: GatewayError | undefined;
  onRetry: () => void;
  onSignOut: () => void;
}): VNode {
  const { failure, onRetry, onSignOut } = props;
  const retryAtMs = useMemo(() => Date.now() + (failure?.retryAfterMs ?? RETRY_MS), [failure]);
  const nowMs = useNow(failure !== undefined);
  useEffect(() => {
    if (failure === undefined) return;
    const timer = setTimeout(onRetry, retryAtMs - Date.now());
    return () => clearTimeout(timer);
  }, [failure]);
  const waiting = failure && [
    h(FailureNotice, { failure, onRetry }),
    el('p', { role: 'timer' }, `Trying again in ${toSpan(retryAtMs - nowMs)}.`),
    el('button', { type: 'button', class: 'small', onClick: onSignOut }, 'Use another key'),
  ];
  return el(
    'main',
    { class: 'sign-in' },
    el('div', null, el('h1', null, 'Codex Gateway'), waiting ?? h(Loading, { what: 'the console' })),
  );
}
