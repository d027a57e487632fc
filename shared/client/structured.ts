// Answers that a schema of the caller types and checks: any Standard Schema (standardschema.dev), for example of zod.
import { GatewayError } from './gateway-error.ts';

/** The part of Standard Schema that is read. */
export interface StandardSchema<Output> {
  readonly '~standard': {
    readonly validate: (value: unknown) => Checked<Output> | Promise<Checked<Output>>;
    /** Standard JSON Schema: zod has it from version 4.2 on. */
    readonly jsonSchema?: { readonly input: (options: { readonly target: 'draft-2020-12' }) => object };
  };
}

type Checked<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] };

/** The JSON Schema to send. Throws TypeError if the schema has none. */
export function toJsonSchema(schema: StandardSchema<unknown>): Record<string, unknown> {
  const { jsonSchema } = schema['~standard'];
  if (jsonSchema === undefined) throw new TypeError('the schema has no JSON Schema: pass one as output_schema');
  return { ...jsonSchema.input({ target: 'draft-2020-12' }) };
}

/** The output as the schema returns it: its own checks and conversions are more than those of its JSON Schema. */
export async function checkOutput<Output>(schema: StandardSchema<Output>, output: unknown): Promise<Output> {
  const checked = await schema['~standard'].validate(output);
  if (checked.issues === undefined) return checked.value;
  const [first] = checked.issues;
  throw new GatewayError({
    reason: 'bad_response',
    message: `the output does not match the schema: ${first?.message ?? 'no reason given'}`,
  });
}
