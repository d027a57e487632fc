// The form of a method has a field for each param, also for params that are more than a text or a number.
import { expect, it } from 'vitest';
import { z } from 'zod';
import { toField, toParams, toText } from '../../../functions/console/methods/fields.ts';
import * as methods from '../../../shared/methods/index.ts';

/** As rpc.discover describes them. */
function fieldsOf(method: { readonly params: z.ZodType }) {
  const { properties = {} } = z.toJSONSchema(method.params, { target: 'draft-7', io: 'input', unrepresentable: 'any' });
  const params = Object.entries(properties).map(([name, schema]) => ({
    name,
    required: false,
    schema: Object(schema),
  }));
  return params.map(toField);
}

it('a prompt is a text, or a list of parts', () => {
  const fields = fieldsOf(methods.conversationPrompt);
  const read = (prompt: string) => toParams(fields, { prompt });
  expect(read('Hello [there]')).toEqual({ params: { prompt: 'Hello [there]' }, problems: {} });
  expect(read('[not JSON')).toEqual({ params: { prompt: '[not JSON' }, problems: {} });
  const parts = [{ type: 'text', text: 'a' }];
  const [field] = fields.filter(({ name }) => name === 'prompt');
  expect(read(toText(field ?? Object(), parts))).toEqual({ params: { prompt: parts }, problems: {} });
});

it('the form of a prompt has a field for each param, and reads what is typed into it', () => {
  const texts = {
    settings: '{"temperature":1}',
    output_schema: '{"type":"array"}',
    fallbacks: 'a/b\nc/d',
    after_seq: '2',
  };
  expect(toParams(fieldsOf(methods.conversationPrompt), texts)).toEqual({
    params: {
      settings: { temperature: 1 },
      output_schema: { type: 'array' },
      fallbacks: ['a/b', 'c/d'],
      after_seq: 2,
    },
    problems: {},
  });
});

it('the forms of the methods that manage sessions have a field for each param', () => {
  const update = { title: 'Mine', metadata: '{"team":"a"}', retention_days: '7' };
  expect(toParams(fieldsOf(methods.conversationUpdate), update)).toEqual({
    params: { title: 'Mine', metadata: { team: 'a' }, retention_days: 7 },
    problems: {},
  });
  expect(toParams(fieldsOf(methods.conversationUpdate), { title: 'null' }).params).toEqual({ title: null });
  expect(toParams(fieldsOf(methods.conversationList), { metadata: '{"team":"a"}' }).params).toEqual({
    metadata: { team: 'a' },
  });
  expect(toParams(fieldsOf(methods.conversationHistory), { order: 'newest' }).params).toEqual({ order: 'newest' });
  expect(toParams(fieldsOf(methods.conversationFork), { to_seq: '2', new_session_id: 'b' }).params).toEqual({
    to_seq: 2,
    new_session_id: 'b',
  });
});
