// One method: its fields or its params as JSON, the same call for a shell, and its answer.
import { h, type VNode } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import type { MethodDescription } from '../gateway/results.ts';
import { useBlockedMs } from '../page/notice.ts';
import { el, toSpan } from '../view.ts';
import { AnswerView } from './answer-view.ts';
import { Copyable } from './copyable.ts';
import { FieldView } from './field-view.ts';
import { type Field, type Texts, toCurl, toField, toParams, toText } from './fields.ts';
import { useMethodCall } from './run-method.ts';

export function MethodForm({ client, method }: { client: Client; method: MethodDescription }): VNode {
  const draft = useDraft(method);
  const { params, problems } = draft;
  // A subscription is called as a stream by default, because its events are its result.
  const [streams, setStreams] = useState(method.name === METHODS.subscribe);
  const { answer, run, stop } = useMethodCall(client);
  const unavailable = method['x-unavailable-reason'];
  const call = { method: method.name, params, streams };
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
          if (Object.keys(problems).length === 0) void run(call);
        },
      },
      h(Params, { draft }),
      h(CallRow, { client, stop, streams, onStreams: setStreams }),
    ),
    h(Copyable, { text: toCurl(location.origin, method.name, params, streams) }),
    answer && h(AnswerView, { answer }),
  );
}

/** What is typed: in fields, or as JSON while `raw` is defined. */
interface Draft {
  readonly fields: readonly Field[];
  readonly texts: Texts;
  readonly raw: string | undefined;
  readonly params: object;
  /** By field name; `json` for the JSON as a whole. */
  readonly problems: Texts;
  setText(name: string, text: string): void;
  setRaw(raw: string): void;
  /** Changes between fields and JSON. */
  toggleRaw(): void;
  fillIn(): void;
}

function useDraft(method: MethodDescription): Draft {
  const fields = useMemo(() => method.params.map(toField), [method]);
  const [texts, setTexts] = useState<Texts>({});
  const [raw, setRaw] = useState<string>();
  const { params, problems } = raw === undefined ? toParams(fields, texts) : readRaw(raw);
  return {
    fields,
    texts,
    raw,
    params,
    problems,
    setText: (name, text) => setTexts({ ...texts, [name]: text }),
    setRaw,
    toggleRaw: () => setRaw(raw === undefined ? JSON.stringify(params, null, 2) : undefined),
    fillIn() {
      const example = new Map(method.examples[0]?.params.map(({ name, value }) => [name, value]));
      setTexts(Object.fromEntries(fields.map((field) => [field.name, toText(field, example.get(field.name))])));
      setRaw(undefined);
    },
  };
}

function Params({ draft }: { draft: Draft }): VNode {
  const { fields, texts, raw, problems } = draft;
  return el(
    'div',
    { class: 'params' },
    el(
      'div',
      { class: 'row' },
      el('button', { type: 'button', class: 'small', onClick: draft.fillIn }, 'Fill in the example'),
      el(
        'button',
        { type: 'button', class: 'small', 'aria-pressed': raw !== undefined, onClick: draft.toggleRaw },
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
            onText: (text) => draft.setText(field.name, text),
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
            onInput: (event) => draft.setRaw(event.currentTarget.value),
          }),
          problems.json && el('span', { class: 'problem' }, problems.json),
        ),
    raw === undefined && fields.length === 0 && el('p', { class: 'quiet' }, 'No params.'),
  );
}

function CallRow(props: {
  client: Client;
  stop: (() => void) | undefined;
  streams: boolean;
  onStreams: (streams: boolean) => void;
}): VNode {
  const { client, stop, streams, onStreams } = props;
  const blockedMs = useBlockedMs(client);
  return el(
    'div',
    { class: 'row' },
    stop === undefined
      ? el(
          'button',
          { key: 'call', type: 'submit', class: 'primary', disabled: blockedMs > 0 },
          blockedMs > 0 ? `Wait ${toSpan(blockedMs)}` : 'Call',
        )
      : // With keys of their own: one element that changes its type during a click would submit the form.
        el('button', { key: 'stop', type: 'button', class: 'danger', onClick: stop }, 'Stop waiting'),
    el(
      'label',
      { class: 'check' },
      el('input', {
        type: 'checkbox',
        checked: streams,
        onChange: (event) => onStreams(event.currentTarget.checked),
      }),
      'over the WebSocket, with events',
    ),
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
