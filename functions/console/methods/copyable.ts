// A text with a button that copies it.
import type { VNode } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { el } from '../view.ts';

export function Copyable({ text }: { text: string }): VNode {
  const [copied, setCopied] = useState(false);
  const box = useRef<HTMLPreElement>(null);
  // Browsers give the clipboard only to pages of this machine or over https; the selection allows Ctrl+C anywhere.
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
