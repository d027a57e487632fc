// The params of a prompt from the options of the command line.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { isBlank } from '../../shared/text.ts';
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
/** Of all images, in Base64: a request has at most 1 MiB. */
const IMAGE_CHARS_MAX = 900 << 10;

/** `text`: undefined if only images are sent. Throws UsageError. */
export async function toPromptParams(text: string | undefined, options: PromptOptions) {
  const { session, after, model, fallback, image = [], schema } = options;
  const images = await Promise.all(image.map(readImage));
  if (images.length === 0 && (text === undefined || isBlank(text))) throw new UsageError('the prompt is empty');
  if (images.reduce((sum, { data }) => sum + data.length, 0) > IMAGE_CHARS_MAX)
    throw new UsageError('the images are larger than 675 KB, the most that a gateway accepts');
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

async function readImage(file: string) {
  const media_type = MEDIA_TYPES[path.extname(file).toLowerCase()];
  if (media_type === undefined) throw new UsageError(`${file} is no .png, .jpg, .gif or .webp`);
  return { type: 'image', media_type, data: (await read(file)).toString('base64') };
}

async function readSchema(file: string): Promise<unknown> {
  const text = await read(file);
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    throw new UsageError(`${file} is not valid JSON`);
  }
}

async function read(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch {
    throw new UsageError(`cannot read ${file}`);
  }
}

function toSeq(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError('--after takes the number of a message');
  return Number(text);
}
