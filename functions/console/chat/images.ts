// How the page shows the images of a prompt, and the button that attaches them.
import type { VNode } from 'preact';
import { useRef } from 'preact/hooks';
import { el } from '../view.ts';
import { IMAGE_TYPES } from './attach.ts';
import type { Image } from './messages.ts';

/** The images in the order of the prompt. `onRemove`: the images are of a prompt that is not sent yet. */
export function Images(props: { images: readonly Image[]; onRemove?: (index: number) => void }): VNode | null {
  const { images, onRemove } = props;
  if (images.length === 0) return null;
  const toName = (index: number) => (images.length === 1 ? 'image' : `image ${index + 1}`);
  return el(
    'ul',
    { class: 'images', 'aria-label': 'Images' },
    ...images.map(({ media_type, data }, index) =>
      el(
        'li',
        { key: `${index}:${data.length}` },
        el('img', { src: `data:${media_type};base64,${data}`, alt: `Attached ${toName(index)}` }),
        onRemove &&
          el(
            'button',
            { type: 'button', class: 'small', 'aria-label': `Remove ${toName(index)}`, onClick: () => onRemove(index) },
            'Remove',
          ),
      ),
    ),
  );
}

/** Opens the browser's dialog for files. */
export function AttachButton({ onFiles }: { onFiles: (files: readonly File[]) => void }): VNode {
  const input = useRef<HTMLInputElement>(null);
  return el(
    'span',
    { class: 'attach' },
    el('button', { type: 'button', class: 'small', onClick: () => input.current?.click() }, 'Attach image'),
    el('input', {
      type: 'file',
      hidden: true,
      multiple: true,
      accept: IMAGE_TYPES.join(','),
      'aria-label': 'Image files',
      ref: input,
      onChange: ({ currentTarget: field }) => {
        onFiles([...(field.files ?? [])]);
        // The same file can be attached again.
        field.value = '';
      },
    }),
  );
}
