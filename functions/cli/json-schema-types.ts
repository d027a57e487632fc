// Converts a JSON Schema to a TypeScript type, for the declarations of the client package. Supports only the keywords
// that the methods' schemas use, and throws for others, so that no wrong type is generated.
import { z } from 'zod';

type Schema = z.core.JSONSchema.JSONSchema;

/**
 * `input`: the type that a caller may pass, in which members with defaults are optional. `output`: the type of a
 * result.
 */
export function toType(schema: z.ZodType, io: 'input' | 'output'): string {
  return write(z.toJSONSchema(schema, { io, unrepresentable: 'any' }), '    ');
}

function write(schema: Schema | boolean, indent: string): string {
  if (typeof schema === 'boolean') return schema ? 'unknown' : 'never';
  if (schema.$ref !== undefined) throw new Error(`no type for ${schema.$ref}`);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  const union = schema.anyOf ?? schema.oneOf;
  if (union !== undefined) return union.map((one) => write(one, indent)).join(' | ');
  if (schema.allOf !== undefined) return schema.allOf.map((one) => `(${write(one, indent)})`).join(' & ');
  if (Array.isArray(schema.type)) return schema.type.map((type) => write({ ...schema, type }, indent)).join(' | ');
  switch (schema.type) {
    case undefined:
      return 'unknown';
    case 'string':
    case 'boolean':
    case 'null':
      return schema.type;
    case 'number':
    case 'integer':
      return 'number';
    case 'array': {
      const items = schema.items;
      if (schema.prefixItems !== undefined || Array.isArray(items)) throw new Error('no type for tuples');
      const type = write(items ?? true, indent);
      return `${schema.readOnly === true ? 'readonly ' : ''}${/^\w+$/.test(type) ? type : `(${type})`}[]`;
    }
    case 'object':
      return writeObject(schema, indent);
    default:
      throw new Error(`no type for ${schema.type}`);
  }
}

function writeObject({ properties, required = [], additionalProperties }: Schema, indent: string): string {
  const inner = `${indent}  `;
  if (properties === undefined) return `{ [name: string]: ${write(additionalProperties ?? true, inner)} }`;
  const members = Object.entries(properties).map(([name, property]) => {
    const isRequired = required.includes(name);
    const description = typeof property === 'object' ? property.description : undefined;
    const comment = description === undefined ? '' : `${inner}/** ${description.replaceAll('*/', '* /')} */\n`;
    const type = write(property, inner);
    return `${comment}${inner}${toName(name)}${isRequired ? '' : '?'}: ${type}${isRequired ? '' : ' | undefined'};\n`;
  });
  // In TypeScript, an index signature must match all named members too, so it is written only for `unknown`.
  const isOpen = typeof additionalProperties === 'object' && Object.keys(additionalProperties).length === 0;
  const rest = isOpen ? `${inner}[name: string]: unknown;\n` : '';
  return members.length === 0 && rest === '' ? '{ [name: string]: never }' : `{\n${members.join('')}${rest}${indent}}`;
}

function toName(name: string): string {
  return /^[a-z_]\w*$/i.test(name) ? name : JSON.stringify(name);
}
