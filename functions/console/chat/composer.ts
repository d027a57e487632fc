// The form of a prompt: its text, Send or Cancel, and the options of the next turns.
import { h, type VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { Models } from '../gateway/results.ts';
import { useBlockedMs } from '../page/notice.ts';
import { el, toSpan, useValue } from '../page/view.ts';
import type { Conversation, PromptOptions } from './conversation.ts';
import { AttachButton, attach, Images, imageProblem } from './images.ts';
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
  const { draft, change, send, box } = usePrompt(conversation, options, blockedMs > 0);
  const { problem, add } = useAttaching(client, options.model, draft, change);
  const isRunning = phase === 'running';
  return el(
    'form',
    {
      class: 'composer',
      onSubmit: (event) => {
        event.preventDefault();
        send();
      },
      onDragOver: (event) => event.preventDefault(),
      onDrop: (event) => {
        if (addFiles(event.dataTransfer, add)) event.preventDefault();
      },
    },
    h(Images, {
      images: draft.images,
      onRemove: (index) =>
        change((known) => ({ ...known, images: known.images.filter((_, place) => place !== index) })),
    }),
    problem !== '' && el('p', { class: 'problem', role: 'alert' }, problem),
    el('label', { for: 'prompt', class: 'hidden' }, 'Prompt'),
    el('textarea', {
      id: 'prompt',
      ref: box,
      rows: 2,
      value: draft.text,
      placeholder: 'Ask anything',
      'aria-describedby': 'prompt-keys',
      onInput: ({ currentTarget: { value: text } }) => change((known) => ({ ...known, text })),
      onPaste: (event) => {
        if (addFiles(event.clipboardData, add)) event.preventDefault();
      },
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

/** Adds the images that are pasted or dropped; false if there are none. */
function addFiles(data: DataTransfer | null, add: (files: readonly File[]) => void): boolean {
  const files = [...(data?.files ?? [])];
  if (files.length > 0) add(files);
  return files.length > 0;
}

type Change = (update: (known: Draft) => Draft) => void;

/** How files become images of the draft, and why they do not. */
function useAttaching(client: Client, model: string, draft: Draft, change: Change) {
  const [problem, setProblem] = useState('');
  const add = async (files: readonly File[]): Promise<void> => {
    const refused = await imageProblem(client, model);
    if (refused !== undefined) return setProblem(refused);
    const attached = await attach(draft.images, files);
    change((known) => ({ ...known, images: attached.images }));
    setProblem(attached.problem);
  };
  // The prompt has been sent.
  useEffect(() => {
    if (draft === EMPTY) setProblem('');
  }, [draft]);
  return { problem, add: (files: readonly File[]) => void add(files) };
}

/** What is typed and attached, and how it is sent. */
function usePrompt(conversation: Conversation, options: PromptOptions, isBlocked: boolean) {
  const { phase, refused } = useValue(conversation.state);
  const [draft, change] = useState(EMPTY);
  const [isWanted, setWanted] = useState(false);
  const box = useRef<HTMLTextAreaElement>(null);
  const isRunning = phase === 'running';
  useEffect(() => box.current?.focus(), [conversation]);
  useEffect(() => {
    if (refused === undefined) return;
    change(({ text, images }) => ({
      text: [refused.text, text].filter(Boolean).join('\n'),
      images: [...refused.images, ...images],
    }));
  }, [refused]);
  // Send and Cancel are removed when they are pressed, and the focus with them.
  useEffect(() => {
    if (document.activeElement === document.body) box.current?.focus();
  }, [isRunning]);

  const send = (): void => {
    if (isRunning || isBlocked || (draft.text.trim() === '' && draft.images.length === 0)) return;
    // A prompt that is submitted before the session has loaded is sent after the load.
    setWanted(phase === 'loading');
    if (phase === 'loading') return;
    change(EMPTY);
    void conversation.send(draft, options);
  };
  useEffect(() => {
    if (!isWanted || phase === 'loading') return;
    setWanted(false);
    send();
  }, [phase]);
  return { draft, change, send, box };
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
