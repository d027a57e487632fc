// One field of a method's form, by its schema.
import type { VNode } from 'preact';
import { el } from '../view.ts';
import type { Field } from './fields.ts';

const NOTES: Readonly<Partial<Record<Field['kind'], string>>> = {
  lines: 'one per line',
  json: 'JSON',
  'text or json': 'text, or JSON',
};

export function FieldView(props: {
  field: Field;
  text: string;
  problem: string | undefined;
  onText: (text: string) => void;
}): VNode {
  const { field, text, problem, onText } = props;
  const id = `field-${field.name}`;
  const shared = { id, value: text, required: field.required, 'aria-describedby': `${id}-hint` };
  return el(
    'div',
    { class: 'field' },
    el('label', { for: id }, field.name, field.required && el('span', { title: 'required' }, ' *')),
    control(),
    el('p', { class: 'quiet', id: `${id}-hint` }, [field.hint, NOTES[field.kind]].filter(Boolean).join('; ')),
    problem !== undefined && text !== '' && el('p', { class: 'problem' }, problem),
  );

  function control(): VNode {
    if (field.kind === 'choice' || field.kind === 'boolean') {
      const choices = field.kind === 'choice' ? field.choices : ['true', 'false'];
      return el(
        'select',
        { ...shared, onChange: (event) => onText(event.currentTarget.value) },
        el('option', { value: '' }, '-'),
        ...choices.map((choice) => el('option', { value: choice }, choice)),
      );
    }
    if (field.kind === 'text' || field.kind === 'number') {
      const inputMode = field.kind === 'number' ? 'decimal' : 'text';
      return el('input', { ...shared, inputMode, onInput: (event) => onText(event.currentTarget.value) });
    }
    const code = field.kind === 'json' ? 'code' : '';
    return el('textarea', { ...shared, rows: 3, class: code, onInput: (event) => onText(event.currentTarget.value) });
  }
}
