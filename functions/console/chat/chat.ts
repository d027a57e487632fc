// The chat page: the list of sessions, and the open session.
import { h, type VNode } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Client } from '../gateway/client.ts';
import { Empty, FailureNotice, Loading } from '../page/notice.ts';
import { createValue, el, useValue } from '../view.ts';
import { Composer } from './composer.ts';
import { Conversation, type PromptOptions } from './conversation.ts';
import { MessageView } from './message-view.ts';
import { Sessions } from './sessions.ts';

export function Chat({ client, sessionId }: { client: Client; sessionId: string }): VNode {
  // Counts turns: the list of sessions is loaded again after each.
  const turns = useMemo(() => createValue(0), []);
  const conversation = useMemo(
    () => new Conversation(client, sessionId, () => turns.set(turns.current + 1)),
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
        h(Empty, { title: 'A new session', text: 'Send a prompt. The answer streams; you can cancel it at any time.' }),
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
