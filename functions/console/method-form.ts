// One method: its fields or its params as JSON, the same call for a shell, and what came back.

import { h, type VNode } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { METHODS } from '../../shared/protocol.ts';
import type { Client } from './client.ts';
import { type Failure, toFailure } from './failure.ts';
import { FieldView } from './field-view.ts';
import { type Texts, toCurl, toField, toParams, toText } from './fields.ts';
import { FailureNotice, useBlockedMs } from './notice.ts';
import { Anything, type MethodDescription } from './results.ts';
import { subscribe } from './subscription.ts';
import { el, toSpan } from './view.ts';

interface Answer {
  readonly ms: number;
  readonly text: string;
  readonly notifications: readonly string[];
  readonly failure?: Failure;
}

const NOTIFICATIONS_MAX = 500;

export function MethodForm({ client, method }: { client: Client; method: MethodDescription }): VNode {
  const fields = useMemo(() => method.params.map(toField), [method]);
  const [texts, setTexts] = useState<Texts>({});
  const [raw, setRaw] = useState<string>();
  // A subscription is nothing without its events.
  const [streams, setStreams] = useState(method.name === METHODS.subscribe);
  const [running, setRunning] = useState<AbortController>();
  const [answer, setAnswer] = useState<Answer>();
  const blockedMs = useBlockedMs(client);
  useEffect(() => () => running?.abort(), [running]);
  const { params, problems } = raw === undefined ? toParams(fields, texts) : readRaw(raw);

  const fillIn = (): void => {
    const example = new Map(method.examples[0]?.params.map(({ name, value }) => [name, value]));
    setTexts(Object.fromEntries(fields.map((field) => [field.name, toText(field, example.get(field.name))])));
    setRaw(undefined);
  };

  const run = async (): Promise<void> => {
    const control = new AbortController();
    const notifications: string[] = [];
    const startedMs = performance.now();
    const show = (rest: Partial<Answer>): void =>
      setAnswer({ ms: performance.now() - startedMs, text: '', notifications: [...notifications], ...rest });
    const onNotification = (name: string, body: unknown): void => {
      if (notifications.push(JSON.stringify({ method: name, params: body })) > NOTIFICATIONS_MAX) notifications.shift();
      show({});
    };
    setRunning(control);
    setAnswer(undefined);
    try {
      const { signal } = control;
      if (streams && method.name === METHODS.subscribe) await subscribe(client, params, onNotification, signal);
      else {
        const result = streams
          ? await client.stream(Anything, method.name, params, onNotification, { signal })
          : await client.call(Anything, method.name, params, { signal });
        show({ text: JSON.stringify(result, null, 2) });
      }
    } catch (error) {
      show({ failure: toFailure(error) });
    }
    setRunning(undefined);
  };

  const unavailable = method['x-unavailable-reason'];
  const curl = toCurl(location.origin, method.name, params, streams);
  return el(
    'section',
    { class: 'method', 'aria-labelledby': 'method-title' },
    el('h2', { id: 'method-title' }, method.name),
    el('p', null, method.summary),
    el('p', { class: 'quiet' }, method['x-scope'] === null ? 'Any key' : `Scope ${method['x-scope']}`),
    unavailable && el('p', { class: 'notice warn' }, `Not available here: ${unavailable}`),
    el(
      'form',
      {
        onSubmit: (event) => {
          event.preventDefault();
          if (Object.keys(problems).length === 0) void run();
        },
      },
      el(
        'div',
        { class: 'row' },
        el('button', { type: 'button', class: 'small', onClick: fillIn }, 'Fill in the example'),
        el(
          'button',
          {
            type: 'button',
            class: 'small',
            'aria-pressed': raw !== undefined,
            onClick: () => setRaw(raw === undefined ? JSON.stringify(params, null, 2) : undefined),
          },
          'Edit as JSON',
        ),
      ),
      raw === undefined
        ? fields.map((field) =>
            h(FieldView, {
              key: field.name,
              field,
              text: texts[field.name] ?? '',
              problem: problems[field.name],
              onText: (text) => setTexts({ ...texts, [field.name]: text }),
            }),
          )
        : el(
            'label',
            null,
            'Params',
            el('textarea', {
              rows: 10,
              class: 'code',
              spellcheck: false,
              value: raw,
              onInput: (event) => setRaw(event.currentTarget.value),
            }),
            problems.json && el('span', { class: 'problem' }, problems.json),
          ),
      raw === undefined && fields.length === 0 && el('p', { class: 'quiet' }, 'No params.'),
      el(
        'div',
        { class: 'row' },
        running === undefined
          ? el(
              'button',
              { key: 'call', type: 'submit', class: 'primary', disabled: blockedMs > 0 },
              blockedMs > 0 ? `Wait ${toSpan(blockedMs)}` : 'Call',
            )
          : // Keyed apart: one element that becomes the other during a click would submit the form.
            el(
              'button',
              { key: 'stop', type: 'button', class: 'danger', onClick: () => running.abort() },
              'Stop waiting',
            ),
        el(
          'label',
          { class: 'check' },
          el('input', {
            type: 'checkbox',
            checked: streams,
            onChange: (event) => setStreams(event.currentTarget.checked),
          }),
          'over the WebSocket, with events',
        ),
      ),
    ),
    h(Copyable, { text: curl }),
    answer && h(AnswerView, { answer }),
  );
}

function readRaw(raw: string): { params: object; problems: Texts } {
  try {
    const value: unknown = JSON.parse(raw);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { params: value, problems: {} };
    return { params: {}, problems: { json: 'must be an object' } };
  } catch {
    return { params: {}, problems: { json: 'is not JSON' } };
  }
}

function Copyable({ text }: { text: string }): VNode {
  const [copied, setCopied] = useState(false);
  const box = useRef<HTMLPreElement>(null);
  // Only pages of this machine or over https are given the clipboard; a selection is ready for Ctrl+C anywhere.
  const hasClipboard = 'clipboard' in navigator;
  const copy = (): void => {
    if (box.current !== null) getSelection()?.selectAllChildren(box.current);
    if (!hasClipboard) return;
    navigator.clipboard.writeText(text).then(
      () => setCopied(true),
      () => setCopied(false),
    );
  };
  return el(
    'div',
    { class: 'copyable' },
    el('pre', { ref: box, tabIndex: 0, 'aria-label': 'The same call with curl' }, text),
    el(
      'button',
      { type: 'button', class: 'small', onClick: copy, onBlur: () => setCopied(false) },
      copied ? 'Copied' : hasClipboard ? 'Copy' : 'Select',
    ),
  );
}

function AnswerView({ answer }: { answer: Answer }): VNode {
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
