// The sessions of the key, the latest first.
import { h, type VNode } from 'preact';
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import { Anything, type ConversationRow, Conversations } from '../gateway/results.ts';
import { FailureNotice, Loading } from '../page/notice.ts';
import { newSessionId } from '../page/route.ts';
import { el, toSpan, useValue, type Value } from '../view.ts';

const PAGE = 30;

export function Sessions(props: { client: Client; sessionId: string; turns: Value<number> }): VNode {
  const { client, sessionId } = props;
  const turns = useValue(props.turns);
  const [rows, setRows] = useState<readonly ConversationRow[]>();
  const [cursor, setCursor] = useState<string>();
  const [failure, setFailure] = useState<GatewayError>();
  const load = useCallback(
    async (after?: string) => {
      try {
        setFailure(undefined);
        const params = { limit: PAGE, ...(after !== undefined && { cursor: after }) };
        const page = await client.call(Conversations, METHODS.list, params);
        setRows((known = []) => (after === undefined ? page.conversations : [...known, ...page.conversations]));
        setCursor(page.next_cursor);
      } catch (error) {
        setFailure(toFailure(error));
      }
    },
    [client],
  );
  useEffect(() => void load(), [load, turns]);
  const erase = async (row: ConversationRow): Promise<void> => {
    try {
      await client.call(Anything, METHODS.delete, { session_id: row.session_id });
      setRows((known = []) => known.filter((other) => other !== row));
      if (row.session_id === sessionId) location.hash = `#/chat/${newSessionId()}`;
    } catch (error) {
      setFailure(toFailure(error));
    }
  };
  return el(
    'details',
    { class: 'sessions', open: matchMedia('(min-width: 50rem)').matches },
    el('summary', null, 'Sessions'),
    el('a', { class: 'button', href: `#/chat/${newSessionId()}` }, 'New session'),
    // The banner shows the rate limit.
    failure && failure.reason !== 'rate_limited' && h(FailureNotice, { failure, onRetry: () => void load() }),
    rows === undefined && failure === undefined && h(Loading, { what: 'sessions' }),
    rows?.length === 0 &&
      failure === undefined &&
      el('p', { class: 'quiet' }, 'None yet. The first prompt creates one.'),
    el(
      'ul',
      null,
      ...(rows ?? []).map((row) =>
        h(Row, { key: row.session_id, row, isOpen: row.session_id === sessionId, onErase: () => void erase(row) }),
      ),
    ),
    cursor !== undefined && el('button', { type: 'button', onClick: () => void load(cursor) }, 'More'),
  );
}

function Row({ row, isOpen, onErase }: { row: ConversationRow; isOpen: boolean; onErase: () => void }): VNode {
  const [isConfirming, setConfirming] = useState(false);
  const { title, session_id, message_count, status } = row;
  const age = toSpan(Date.now() - Date.parse(row.updated_at));
  return el(
    'li',
    { class: 'session' },
    el(
      'a',
      { href: `#/chat/${encodeURIComponent(row.session_id)}`, 'aria-current': isOpen ? 'page' : undefined },
      el('span', { class: 'name' }, title ?? session_id),
      el(
        'span',
        { class: 'quiet' },
        title === undefined ? '' : `${session_id}, `,
        `${message_count} messages${status === 'idle' ? '' : `, ${status}`}, ${age} ago`,
      ),
    ),
    el(
      'button',
      {
        type: 'button',
        class: isConfirming ? 'danger small' : 'small',
        'aria-label': `${isConfirming ? 'Really erase' : 'Erase'} session ${row.session_id}`,
        onClick: () => (isConfirming ? onErase() : setConfirming(true)),
        onBlur: () => setConfirming(false),
      },
      isConfirming ? 'Sure?' : 'Erase',
    ),
  );
}
