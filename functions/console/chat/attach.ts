// Reads files as images of the next prompt, within the size that a request may have.
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { Models } from '../gateway/results.ts';
import { createValue, type Value } from '../view.ts';
import type { Draft, Image } from './messages.ts';

export const IMAGE_TYPES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'];
/** All images of a prompt, as Base64: a request has at most 1 MiB. */
const CHARS_MAX = 900 << 10;
const IMAGES_MAX = 16;

interface AttachingState {
  /** Why a file was not attached; empty if all were. */
  readonly problem: string;
  /** Calls of `add` whose files are being read: the prompt is sent afterwards. */
  readonly calls: number;
}

export interface Attaching {
  readonly state: Value<AttachingState>;
  readonly add: (files: readonly File[]) => void;
}

/** Adds files to the draft, in the order of the calls. */
export function useAttaching(client: Client, model: string, draft: Value<Draft>): Attaching {
  const state = useMemo(() => createValue<AttachingState>({ problem: '', calls: 0 }), []);
  const last = useRef(Promise.resolve());
  const isEmpty = draft.current.text === '' && draft.current.images.length === 0;

  const addNow = async (files: readonly File[]): Promise<void> => {
    const refused = await imageProblem(client, model);
    const { images, problem } =
      refused === undefined ? await readImages(draft.current.images, files) : { images: [], problem: refused };
    draft.set({ ...draft.current, images: [...draft.current.images, ...images] });
    state.set({ problem, calls: state.current.calls - 1 });
  };
  const add = (files: readonly File[]): void => {
    state.set({ ...state.current, calls: state.current.calls + 1 });
    last.current = last.current.then(() => addNow(files));
  };
  // The prompt has been sent.
  useEffect(() => {
    if (isEmpty) state.set({ ...state.current, problem: '' });
  }, [isEmpty]);
  useDrop(add);
  return { state, add };
}

/** Files are dropped anywhere on the page: the browser would open one that is dropped beside the form, and leave it. */
function useDrop(add: Attaching['add']): void {
  useEffect(() => {
    const allow = (event: DragEvent): void => {
      if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
    };
    const drop = (event: DragEvent): void => addFiles(event, event.dataTransfer, add);
    addEventListener('dragover', allow);
    addEventListener('drop', drop);
    return () => {
      removeEventListener('dragover', allow);
      removeEventListener('drop', drop);
    };
  });
}

/** Adds the files that are pasted or dropped. Cells of a table come as text and as an image of it: text is pasted. */
export function addFiles(event: Event, data: DataTransfer | null, add: Attaching['add']): void {
  const files = [...(data?.files ?? [])];
  const isText = data?.types.includes('text/plain') && data.types.includes('text/html');
  if (files.length === 0 || isText) return;
  event.preventDefault();
  add(files);
}

/** The images of files, as many as a prompt with `images` may have beside them. Reads only those. */
async function readImages(images: readonly Image[], files: readonly File[]) {
  const added: Image[] = [];
  const problems: string[] = [];
  for (const file of files) {
    const name = file.name || 'The image';
    const chars = [...images, ...added].reduce((sum, { data }) => sum + data.length, Math.ceil(file.size / 3) * 4);
    const problem = toProblem(file, chars, images.length + added.length);
    const data = problem === '' ? await toBase64(file).catch(() => undefined) : '';
    if (data) added.push({ type: 'image', media_type: file.type, data });
    else problems.push(`${name} ${problem || 'cannot be read'}.`);
  }
  return { images: added, problem: problems.join(' ') };
}

function toProblem({ type, size }: File, chars: number, count: number): string {
  if (!IMAGE_TYPES.includes(type)) return 'is no PNG, JPEG, GIF or WebP image';
  if (size === 0) return 'is empty';
  if (count === IMAGES_MAX) return `is not attached: a prompt may have ${IMAGES_MAX} images`;
  if (chars > CHARS_MAX) return `is too large: the images of a prompt may have ${(CHARS_MAX * 3) / 4_096} KB`;
  return '';
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
async function imageProblem(client: Client, model: string): Promise<string | undefined> {
  const { models } = await client.call(Models, METHODS.models, {}).catch(() => ({ models: [] }));
  const used = models.find(({ id, default: isDefault }) => (model === '' ? isDefault : id === model));
  const takes = used?.input === undefined || used.input.includes('image');
  return takes ? undefined : `${used.id} takes no images. Choose another model in the options.`;
}
