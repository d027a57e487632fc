// One message. Its content is shown as text; only code fences are formatted.
import { h, type VNode } from 'preact';
import { FailureNotice } from '../page/notice.ts';
import { el } from '../view.ts';
import { Images } from './images.ts';
import type { Message } from './messages.ts';

const ENDS: Readonly<Partial<Record<Message['state'], string>>> = {
  cancelled: 'Cancelled. The text received before the cancellation is shown.',
  failed: 'The turn did not complete.',
  partial: 'Not complete: the turn was stopped.',
};

export function MessageView(props: { message: Message; onRetry?: (() => void) | undefined }): VNode {
  const { message, onRetry } = props;
  const { role, content, images = [], state, reasoning, steps = [], failure } = message;
  const isRunning = state === 'running';
  return el(
    'article',
    { class: `message ${role}${isRunning ? ' running' : ''}`, 'data-state': state },
    el('h3', { class: 'who' }, role === 'user' ? 'You' : 'Assistant'),
    reasoning &&
      el('details', { class: 'reasoning' }, el('summary', null, 'Reasoning'), el('p', { class: 'text' }, reasoning)),
    steps.length > 0 && el('ul', { class: 'steps' }, ...steps.map((step) => el('li', null, step))),
    h(Images, { images }),
    ...toParts(content),
    isRunning && content === '' && el('p', { class: 'quiet loading' }, 'Waiting for the model …'),
    ENDS[state] && failure === undefined && el('p', { class: 'quiet end' }, ENDS[state]),
    failure && h(FailureNotice, { failure, onRetry }),
  );
}

/** Text and fenced code alternate; an open fence counts as code. */
function toParts(content: string): VNode[] {
  return content.split(/^```/m).flatMap((part, index) => {
    if (part === '') return [];
    if (index % 2 === 0) return [el('p', { class: 'text' }, part.replace(/^\n+|\n+$/g, ''))];
    const start = part.indexOf('\n');
    return [el('pre', { tabIndex: 0 }, el('code', null, start === -1 ? '' : part.slice(start + 1)))];
  });
}
