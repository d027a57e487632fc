// The params of a prompt from the options of the command line.
import path from 'node:path';
import { isBlank } from '../../shared/messages/text.ts';
import { readFileInput } from './read-input.ts';
import { UsageError } from './usage-error.ts';

export interface PromptOptions {
  readonly session: string | undefined;
  readonly after: string | undefined;
  readonly model: string | undefined;
  readonly fallback: readonly string[] | undefined;
  readonly image: readonly string[] | undefined;
  readonly schema: string | undefined;
}

/** By the end of a file's name; the gateway checks the content. */
const MEDIA_TYPES: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
  '.gif': 'image/gif',
  '.webp': 'image/webp',
};
/** Of all images: with Base64, they are 900 KiB of a request. */
const IMAGES_BYTES_MAX = 675 << 10;

/** `text`: undefined if only images are sent. Throws UsageError. */
export async function toPromptParams(text: string | undefined, options: PromptOptions) {
  const { session, after, model, fallback, image = [], schema } = options;
  const images = await readImages(image);
  if (images.length === 0 && (text === undefined || isBlank(text))) throw new UsageError('the prompt is empty');
  const texts = text === undefined || isBlank(text) ? [] : [{ type: 'text', text }];
  return {
    prompt: images.length === 0 ? text : [...images, ...texts],
    ...(session !== undefined && { session_id: session }),
    ...(after !== undefined && { after_seq: toSeq(after) }),
    ...(model !== undefined && { model }),
    ...(fallback !== undefined && { fallbacks: fallback }),
    ...(schema !== undefined && { output_schema: await readSchema(schema) }),
  };
}

async function readImages(files: readonly string[]) {
  const images: { readonly type: 'image'; readonly media_type: string; readonly data: string }[] = [];
  let sizeBytes = 0;
  for (const file of files) {
    const media_type = MEDIA_TYPES[path.extname(file).toLowerCase()];
    if (media_type === undefined) throw new UsageError(`${file} is no .png, .jpg, .gif or .webp`);
    const bytes = await readFileInput(file, IMAGES_BYTES_MAX);
    sizeBytes += bytes.length;
    if (sizeBytes > IMAGES_BYTES_MAX)
      throw new UsageError(`the images are larger than ${IMAGES_BYTES_MAX >> 10} KiB, the most that a gateway accepts`);
    images.push({ type: 'image', media_type, data: bytes.toString('base64') });
  }
  return images;
}

async function readSchema(file: string): Promise<unknown> {
  const text = await readFileInput(file);
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    throw new UsageError(`${file} is not valid JSON`);
  }
}

function toSeq(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError('--after takes the number of a message');
  return Number(text);
}
