// Shows the outcome of a call: its duration, its events, its result or its failure.
import { h, type VNode } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { FailureNotice } from '../page/notice.ts';
import { el } from '../view.ts';

export interface Answer {
  readonly ms: number;
  readonly text: string;
  /** The notifications as they were received. */
  readonly notifications: readonly string[];
  readonly failure?: GatewayError;
}

export function AnswerView({ answer }: { answer: Answer }): VNode {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: 'nearest' }), [answer]);
  return el(
    'div',
    { class: 'answer', role: 'status', ref: box },
    el('p', { class: 'quiet' }, `${Math.round(answer.ms)} ms`),
    answer.notifications.length > 0 &&
      el('pre', { tabIndex: 0, 'aria-label': 'Events' }, answer.notifications.join('\n')),
    answer.failure
      ? h(FailureNotice, { failure: answer.failure })
      : answer.text !== '' && el('pre', { tabIndex: 0, 'aria-label': 'Result' }, answer.text),
  );
}
