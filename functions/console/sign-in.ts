// Asking for the key. It is checked with the gateway and kept in sessionStorage: gone with the tab.
import { h, type VNode } from 'preact';
import { useState } from 'preact/hooks';
import type { Failure } from './failure.ts';
import { FailureNotice } from './notice.ts';
import { el } from './view.ts';

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];

export function SignIn(props: { busy: boolean; failure: Failure | undefined; onKey: (key: string) => void }): VNode {
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
          el('button', { type: 'button', class: 'link', onClick: () => props.onKey('dev-key') }, 'use dev-key'),
        ),
      el('p', { class: 'quiet' }, 'The key stays in this tab and is forgotten with it.'),
    ),
  );
}
