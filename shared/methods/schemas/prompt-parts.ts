// The prompt of a turn: a text, or a list of texts and images.
import { z } from 'zod';
import type { ImagePart, TextPart } from '../../messages/message-parts.ts';
import { isBlank } from '../../messages/text.ts';

/** Base64 characters; a body has at most 1 MiB. */
const IMAGE_CHARS_MAX = 900 << 10;
const PARTS_MAX = 64;
const BLANK = 'must contain more than white space';

/** The first bytes of a file, in hexadecimal. */
const SIGNATURES = {
  'image/png': /^89504e470d0a1a0a/,
  'image/jpeg': /^ffd8ff/,
  'image/gif': /^47494638/,
  'image/webp': /^52494646.{8}57454250/,
} as const;
const SIGNATURE_CHARS = 24;

const Image = z
  .strictObject({
    type: z.literal('image'),
    media_type: z.enum(['image/png', 'image/jpeg', 'image/gif', 'image/webp']),
    data: z
      .string()
      .min(1)
      .max(IMAGE_CHARS_MAX)
      .refine((data) => data.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(data), 'must be base64')
      .describe('Base64'),
  })
  .superRefine(({ media_type, data }, context) => {
    const start = Buffer.from(data.slice(0, SIGNATURE_CHARS), 'base64').toString('hex');
    if (!SIGNATURES[media_type].test(start))
      context.addIssue({ code: 'custom', path: ['data'], message: `is not of type ${media_type}` });
  });

const PromptPart = z.discriminatedUnion(
  'type',
  [z.strictObject({ type: z.literal('text'), text: z.string() }), Image],
  {
    error: (issue) =>
      issue.code === 'invalid_union' ? 'must be "text" or "image"; files are not supported yet' : undefined,
  },
);

export const Prompt = z
  .union([
    z
      .string()
      .min(1)
      .refine((prompt) => prompt === '' || !isBlank(prompt), BLANK),
    z
      .array(PromptPart)
      .min(1)
      .max(PARTS_MAX)
      .refine((parts) => parts.length === 0 || toPromptParts(parts).length > 0, BLANK),
  ])
  .describe('The text of the prompt, or its parts: texts and images');

/** The text of a prompt, and its parts if it is more than text. Blank texts are left out: providers refuse them. */
export function toPrompt(prompt: z.output<typeof Prompt>): {
  readonly prompt: string;
  readonly parts?: readonly (TextPart | ImagePart)[];
} {
  if (typeof prompt === 'string') return { prompt };
  const parts = toPromptParts(prompt);
  const text = parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
  return { prompt: text, ...(parts.some(({ type }) => type === 'image') && { parts }) };
}

function toPromptParts(parts: readonly (TextPart | ImagePart)[]): readonly (TextPart | ImagePart)[] {
  return parts.filter((part) => part.type === 'image' || !isBlank(part.text));
}
