// The images of a prompt: what the page attaches, within the size that a request may have, and how it shows them.
import type { VNode } from 'preact';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { Models } from '../gateway/results.ts';
import { el } from '../page/view.ts';
import type { Image } from './messages.ts';

export const IMAGE_TYPES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'];
/** All images of a prompt, as Base64: a request has at most 1 MiB. */
const CHARS_MAX = 900 << 10;
const IMAGES_MAX = 16;

export interface Attached {
  readonly images: readonly Image[];
  /** Why a file was not attached; empty if all were. */
  readonly problem: string;
}

/** Adds files to the images of a prompt. */
export async function attach(images: readonly Image[], files: readonly File[]): Promise<Attached> {
  const attached = [...images];
  const problems: string[] = [];
  for (const file of files) {
    const name = file.name || 'The image';
    const chars = attached.reduce((sum, { data }) => sum + data.length, 0) + Math.ceil(file.size / 3) * 4;
    if (!IMAGE_TYPES.includes(file.type)) problems.push(`${name} is no PNG, JPEG, GIF or WebP image.`);
    else if (file.size === 0) problems.push(`${name} is empty.`);
    else if (chars > CHARS_MAX || attached.length === IMAGES_MAX)
      problems.push(`${name} is too large: the images of a prompt may have ${Math.floor((CHARS_MAX * 3) / 4_096)} KB.`);
    else attached.push({ type: 'image', media_type: file.type, data: await toBase64(file) });
  }
  return { images: attached, problem: problems.join(' ') };
}

async function toBase64(file: File): Promise<string> {
  const url = await new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(',') + 1);
}

/** Why the model takes no images; undefined: it takes some, or that is not known. */
export async function imageProblem(client: Client, model: string): Promise<string | undefined> {
  const { models } = await client.call(Models, METHODS.models, {}).catch(() => ({ models: [] }));
  const used = models.find(({ id, default: isDefault }) => (model === '' ? isDefault : id === model));
  const takes = used?.input === undefined || used.input.includes('image');
  return takes ? undefined : `${used.id} takes no images. Choose another model in the options.`;
}

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
  let input: HTMLInputElement | null = null;
  return el(
    'span',
    { class: 'attach' },
    el('button', { type: 'button', class: 'small', onClick: () => input?.click() }, 'Attach image'),
    el('input', {
      type: 'file',
      hidden: true,
      multiple: true,
      accept: IMAGE_TYPES.join(','),
      'aria-label': 'Image files',
      ref: (element: HTMLInputElement | null) => {
        input = element;
      },
      onChange: ({ currentTarget: field }) => {
        onFiles([...(field.files ?? [])]);
        // The same file can be attached again.
        field.value = '';
      },
    }),
  );
}
