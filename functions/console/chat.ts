// The chat: the sessions of the key beside the one that is open.
import { h, type VNode } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Client } from './client.ts';
import { type Conversation, createConversation, type PromptOptions } from './conversation.ts';
import { MessageView } from './message-view.ts';
import { Empty, FailureNotice, Loading, useBlockedMs } from './notice.ts';
import { Sessions } from './sessions.ts';
import { createValue, el, toSpan, useValue } from './view.ts';

export function Chat({ client, sessionId }: { client: Client; sessionId: string }): VNode {
  // Called after every turn, so that the list shows it.
  const turns = useMemo(() => createValue(0), []);
  const conversation = useMemo(
    () => createConversation(client, sessionId, () => turns.set(turns.current + 1)),
    [client, sessionId],
  );
  useEffect(() => {
    void conversation.load();
    return () => conversation.leave();
  }, [conversation]);
  return el(
    'div',
    { class: 'chat' },
    h(Sessions, { client, sessionId, turns }),
    h(Thread, { key: sessionId, client, conversation }),
  );
}

function Thread({ client, conversation }: { client: Client; conversation: Conversation }): VNode {
  const { phase, messages, failure, cancelling } = useValue(conversation.state);
  const [options, setOptions] = useState<PromptOptions>({ model: '', instructions: '' });
  const end = useRef<HTMLDivElement>(null);
  const isNearEnd = useRef(true);
  useEffect(() => {
    if (isNearEnd.current) end.current?.scrollIntoView({ block: 'end' });
  }, [messages]);
  return el(
    'section',
    {
      class: 'thread',
      'aria-label': `Session ${conversation.sessionId}`,
      onKeyDown: (event) => {
        if (event.key === 'Escape' && phase === 'running' && !cancelling) void conversation.cancel();
      },
    },
    el(
      'div',
      {
        class: 'messages',
        role: 'log',
        'aria-label': 'Messages',
        'aria-busy': phase === 'running',
        tabIndex: 0,
        onScroll: ({ currentTarget: list }) => {
          isNearEnd.current = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
        },
      },
      phase === 'loading' && h(Loading, { what: 'the conversation' }),
      phase === 'ready' &&
        messages.length === 0 &&
        h(Empty, { title: 'A new session', text: 'Say something. The answer streams; you can cancel it at any time.' }),
      ...messages.map((message, index) =>
        h(MessageView, {
          key: index,
          message,
          onRetry:
            index === messages.length - 1 && phase === 'ready' ? () => void conversation.retry(options) : undefined,
        }),
      ),
      failure &&
        h(FailureNotice, { failure, onRetry: phase === 'running' ? undefined : () => void conversation.load() }),
      el('div', { ref: end }),
    ),
    h(Composer, { client, conversation, options, onOptions: setOptions }),
  );
}

function Composer(props: {
  client: Client;
  conversation: Conversation;
  options: PromptOptions;
  onOptions: (options: PromptOptions) => void;
}): VNode {
  const { client, conversation, options, onOptions } = props;
  const { phase, cancelling, refused } = useValue(conversation.state);
  const blockedMs = useBlockedMs(client);
  const [prompt, setPrompt] = useState('');
  const box = useRef<HTMLTextAreaElement>(null);
  const isRunning = phase === 'running';
  useEffect(() => box.current?.focus(), [conversation]);
  useEffect(() => {
    if (refused !== undefined) setPrompt((typed) => [refused, typed].filter(Boolean).join('\n'));
  }, [refused]);
  // Send and Cancel go when pressed, and the focus with them.
  useEffect(() => {
    if (document.activeElement === document.body) box.current?.focus();
  }, [isRunning]);

  const [isWanted, setWanted] = useState(false);
  const send = (): void => {
    if (isRunning || blockedMs > 0 || prompt.trim() === '') return;
    // A prompt that is submitted before the session has loaded is sent after the load.
    setWanted(phase === 'loading');
    if (phase === 'loading') return;
    setPrompt('');
    void conversation.send(prompt, options);
  };
  useEffect(() => {
    if (!isWanted || phase === 'loading') return;
    setWanted(false);
    send();
  }, [phase]);
  return el(
    'form',
    {
      class: 'composer',
      onSubmit: (event) => {
        event.preventDefault();
        send();
      },
    },
    el('label', { for: 'prompt', class: 'hidden' }, 'Prompt'),
    el('textarea', {
      id: 'prompt',
      ref: box,
      rows: 2,
      value: prompt,
      placeholder: 'Ask anything',
      'aria-describedby': 'prompt-keys',
      onInput: (event) => setPrompt(event.currentTarget.value),
      onKeyDown: (event) => {
        if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        send();
      },
    }),
    isRunning
      ? el(
          'button',
          {
            key: 'cancel',
            type: 'button',
            class: 'danger',
            disabled: cancelling,
            onClick: () => void conversation.cancel(),
          },
          cancelling ? 'Cancelling …' : 'Cancel',
        )
      : el(
          'button',
          { key: 'send', type: 'submit', class: 'primary', disabled: blockedMs > 0 || phase === 'loading' },
          blockedMs > 0 ? `Wait ${toSpan(blockedMs)}` : 'Send',
        ),
    el(
      'p',
      { id: 'prompt-keys', class: 'quiet keys' },
      isRunning ? 'Escape cancels.' : 'Enter sends, Shift+Enter makes a new line.',
    ),
    el(
      'details',
      null,
      el('summary', null, 'Options'),
      el(
        'label',
        null,
        'Model',
        el('input', {
          value: options.model,
          placeholder: 'provider/model; the default when empty',
          onInput: (event) => onOptions({ ...options, model: event.currentTarget.value }),
        }),
      ),
      el(
        'label',
        null,
        'Instructions',
        el('input', {
          value: options.instructions,
          placeholder: 'System instructions for the next turns',
          onInput: (event) => onOptions({ ...options, instructions: event.currentTarget.value }),
        }),
      ),
    ),
  );
}
