// The settings of a prompt, in wire names (turn-settings.ts).
import { z } from 'zod';
import { type OutputSchema, schemaProblem } from '../../json/output-schema.ts';
import { REASONING } from '../../messages/turn-settings.ts';

const INT32_MAX = 2 ** 31 - 1;

export const Settings = z
  .strictObject({
    temperature: z.number().min(0).max(2).optional(),
    top_p: z.number().min(0).max(1).optional(),
    max_output_tokens: z.int().min(1).max(1_000_000).optional().describe('Reasoning included'),
    stop: z.array(z.string().min(1).max(256)).max(4).optional().describe('Texts at which the answer ends'),
    seed: z.int().min(0).max(INT32_MAX).optional(),
    reasoning: z.enum(REASONING).optional().describe('How much the model reasons before it answers'),
  })
  .describe('The same names for every model; one that the model does not support is left out and named in `warnings`');

export const OutputSchemaParam = z
  .union([z.record(z.string(), z.unknown()), z.boolean()])
  .superRefine((schema, context) => {
    const message = schemaProblem(toOutputSchema(schema));
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  })
  .describe('A JSON Schema: the answer is JSON that matches it, parsed in `output`');

/** `true` allows any JSON, `false` none. */
export function toOutputSchema(schema: boolean | OutputSchema): OutputSchema {
  if (typeof schema === 'object') return schema;
  return schema ? {} : { not: {} };
}

export const Warnings = z
  .array(z.object({ setting: z.string(), message: z.string() }))
  .readonly()
  .describe('Settings that were left out or changed, or `tools`, because the model does not support them');
