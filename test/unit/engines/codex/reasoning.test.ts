// The reasoning of a Codex turn is sent as deltas first, then as the whole text, which repeats them.
import { expect, it } from 'vitest';
import { createReasoningText } from '../../../../shared/engines/codex/events/reasoning.ts';

const item = (summary: string[], content: string[] = []) => ({ type: 'reasoning', id: 'r', summary, content }) as const;
const delta = (text: string) => ({ AgentReasoningDelta: { delta: text } });
const whole = (text: string) => ({ AgentReasoning: { text } });

it('reasoning is sent as its deltas, with an empty line between the parts of an item', () => {
  const reasoning = createReasoningText();
  const events = [
    ...reasoning.add('r', 'summary', 0, 'First'),
    ...reasoning.add('r', 'summary', 0, ' this.'),
    ...reasoning.add('r', 'summary', 1, 'Then'),
    // Raw text beside the summary of the same item.
    ...reasoning.add('r', 'content', 0, 'raw'),
    ...reasoning.end(item(['First this.', 'Then that.'], ['raw'])),
    ...reasoning.end(item([], ['Raw only.'])),
    ...reasoning.end(item([])),
  ];
  expect(events).toEqual([
    delta('First'),
    delta(' this.'),
    delta('\n\nThen'),
    delta(' that.'),
    whole('First this.\n\nThen that.'),
    delta('Raw only.'),
    whole('Raw only.'),
  ]);
  expect(reasoning.chars).toBe('First this.\n\nThen that.Raw only.'.length);
});
