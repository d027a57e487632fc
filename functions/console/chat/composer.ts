// The form of a prompt: its text, Send or Cancel, and the options of the next turns.
import { h, type VNode } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { Models } from '../gateway/results.ts';
import { useBlockedMs } from '../page/notice.ts';
import { createValue, el, toSpan, useValue, type Value } from '../view.ts';
import { type Attaching, addFiles, useAttaching } from './attach.ts';
import type { Conversation, PromptOptions } from './conversation.ts';
import { AttachButton, Images } from './images.ts';
import type { Draft } from './messages.ts';

export interface ComposerProps {
  readonly client: Client;
  readonly conversation: Conversation;
  readonly options: PromptOptions;
  readonly onOptions: (options: PromptOptions) => void;
}

export function Composer({ client, conversation, options, onOptions }: ComposerProps): VNode {
  const { phase } = useValue(conversation.state);
  const blockedMs = useBlockedMs(client);
  const draft = useMemo(() => createValue(EMPTY), []);
  const { text, images } = useValue(draft);
  const attaching = useAttaching(client, options.model, draft);
  const { send, box } = usePrompt({ conversation, options, isBlocked: blockedMs > 0, draft, attaching });
  const { problem } = useValue(attaching.state);
  const { add } = attaching;
  const isRunning = phase === 'running';
  return el(
    'form',
    {
      class: 'composer',
      onSubmit: (event) => {
        event.preventDefault();
        send();
      },
    },
    h(Images, {
      images,
      onRemove: (index) => {
        draft.set({ ...draft.current, images: draft.current.images.filter((_, place) => place !== index) });
        // The button that has the focus is removed.
        box.current?.focus();
      },
    }),
    problem !== '' && el('p', { class: 'problem', role: 'alert' }, problem),
    el('label', { for: 'prompt', class: 'hidden' }, 'Prompt'),
    el('textarea', {
      id: 'prompt',
      ref: box,
      rows: 2,
      value: text,
      placeholder: 'Ask anything',
      'aria-describedby': 'prompt-keys',
      onInput: ({ currentTarget: { value } }) => draft.set({ ...draft.current, text: value }),
      onPaste: (event) => addFiles(event, event.clipboardData, add),
      onKeyDown: (event) => {
        if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        send();
      },
    }),
    isRunning
      ? h(CancelButton, { key: 'cancel', conversation })
      : el(
          'button',
          { key: 'send', type: 'submit', class: 'primary', disabled: blockedMs > 0 || phase === 'loading' },
          blockedMs > 0 ? `Wait ${toSpan(blockedMs)}` : 'Send',
        ),
    el(
      'p',
      { id: 'prompt-keys', class: 'quiet keys' },
      isRunning ? 'Escape cancels.' : 'Enter sends, Shift+Enter makes a new line. Images can be pasted and dropped.',
    ),
    h(AttachButton, { onFiles: add }),
    h(Options, { client, options, onOptions }),
  );
}

const EMPTY: Draft = { text: '', images: [] };

interface PromptDeps extends Pick<ComposerProps, 'conversation' | 'options'> {
  readonly isBlocked: boolean;
  readonly draft: Value<Draft>;
  readonly attaching: Attaching;
}

/** How the draft is sent. */
function usePrompt({ conversation, options, isBlocked, draft, attaching }: PromptDeps) {
  const { phase, refused } = useValue(conversation.state);
  const { problem, calls } = useValue(attaching.state);
  const [isWanted, setWanted] = useState(false);
  const box = useRef<HTMLTextAreaElement>(null);
  const isRunning = phase === 'running';
  useEffect(() => box.current?.focus(), [conversation]);
  useEffect(() => {
    if (refused === undefined) return;
    const { text, images } = draft.current;
    draft.set({
      text: [refused.text, text].filter(Boolean).join('\n'),
      images: [...refused.images, ...images],
    });
  }, [refused]);
  // Send and Cancel are removed when they are pressed, and the focus with them.
  useEffect(() => {
    if (document.activeElement === document.body) box.current?.focus();
  }, [isRunning]);

  const send = (): void => {
    const { current } = draft;
    const isReading = attaching.state.current.calls > 0;
    const isEmpty = current.text.trim() === '' && current.images.length === 0;
    if (isRunning || isBlocked || (isEmpty && !isReading)) return;
    // A prompt that is submitted before the session has loaded, or while images are read, is sent afterwards.
    const isEarly = phase === 'loading' || isReading;
    setWanted(isEarly);
    if (isEarly) return;
    draft.set(EMPTY);
    void conversation.send(current, options);
  };
  useEffect(() => {
    if (!isWanted || phase === 'loading' || calls > 0) return;
    setWanted(false);
    // After a problem with an image, the prompt is sent only when it is submitted again.
    if (problem === '') send();
  }, [isWanted, phase, calls]);
  return { send, box };
}

function CancelButton({ conversation }: { conversation: Conversation }): VNode {
  const { cancelling } = useValue(conversation.state);
  return el(
    'button',
    { type: 'button', class: 'danger', disabled: cancelling, onClick: () => void conversation.cancel() },
    cancelling ? 'Cancelling …' : 'Cancel',
  );
}

function Options({ client, options, onOptions }: Omit<ComposerProps, 'conversation'>): VNode {
  const [models, setModels] = useState<readonly { readonly id: string; readonly default: boolean }[]>([]);
  // Suggestions only: every model of a provider can be named, and a gateway of an earlier version lists none.
  const suggest = (): void => {
    if (models.length === 0)
      client.call(Models, METHODS.models, {}).then(
        (found) => setModels(found.models),
        () => {},
      );
  };
  return el(
    'details',
    { onToggle: suggest },
    el('summary', null, 'Options'),
    el(
      'label',
      null,
      'Model',
      el('input', {
        value: options.model,
        list: 'models',
        placeholder: 'provider/model; the default when empty',
        onInput: (event) => onOptions({ ...options, model: event.currentTarget.value }),
      }),
    ),
    el(
      'datalist',
      { id: 'models' },
      models.map(({ id, default: isDefault }) => el('option', { key: id, value: id }, isDefault ? 'default' : null)),
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
  );
}
