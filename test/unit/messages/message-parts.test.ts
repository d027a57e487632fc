// The parts of a message are separated into the calls of its model, and stored and read without loss.
import { describe, expect, it } from 'vitest';
import { decodeDetail, encodeDetail } from '../../../shared/conversations/records/messages/message-detail.ts';
import {
  type MessagePart,
  type OutputPart,
  type ToolResultPart,
  toRounds,
} from '../../../shared/messages/message-parts.ts';

const text = (content: string): MessagePart => ({ type: 'text', text: content });
const call = (call_id: string): MessagePart => ({ type: 'tool_call', call_id, name: 'add', arguments: '{"a":1}' });
const result = (call_id: string, content = 'done'): MessagePart => ({
  type: 'tool_result',
  call_id,
  name: 'add',
  content,
  is_error: false,
});

describe('the calls of a model in a message', () => {
  it.each<[string, MessagePart[], [string[], string[]][]]>([
    ['a text', [text('hi')], [[['hi'], []]]],
    [
      'a call between texts',
      [text('a'), call('1'), result('1'), text('b')],
      [
        [['a', '1'], ['1']],
        [['b'], []],
      ],
    ],
    [
      'two calls at once',
      [call('1'), call('2'), result('1'), result('2')],
      [
        [
          ['1', '2'],
          ['1', '2'],
        ],
      ],
    ],
    [
      'results in another order',
      [call('1'), call('2'), result('2'), result('1')],
      [
        [
          ['1', '2'],
          ['1', '2'],
        ],
      ],
    ],
    [
      'a result after a later text',
      [call('1'), call('2'), result('1'), text('a'), result('2')],
      [
        [
          ['1', '2'],
          ['1', '2'],
        ],
        [['a'], []],
      ],
    ],
    [
      'the same id in two rounds',
      [call('1'), result('1'), call('1'), result('1')],
      [
        [['1'], ['1']],
        [['1'], ['1']],
      ],
    ],
  ])('the calls of a model in a message are separated: %s', (_, parts, rounds) => {
    const nameOf = (part: OutputPart | ToolResultPart): string => ('call_id' in part ? part.call_id : part.text);
    expect(toRounds(parts).map(({ output, results }) => [output.map(nameOf), results.map(nameOf)])).toEqual(rounds);
  });

  it('the calls of a model in a message have a result for a tool that did not answer', () => {
    const [round] = toRounds([call('1'), call('2'), result('2')]);
    expect(round?.results).toEqual([
      expect.objectContaining({ call_id: '1', is_error: true, content: expect.stringMatching(/no result/) }),
      result('2'),
    ]);
  });
});

describe('the stored detail of a message', () => {
  it('the stored detail of a message has the parts, with the text of the message and what a provider has signed', () => {
    const metadata = { anthropic: { signature: 'abc', nested: { list: [1, null, true] } } };
    const parts: MessagePart[] = [
      { type: 'reasoning', text: 'hm', metadata },
      text('First 👩‍👩‍👧‍👦. '),
      { ...call('1'), metadata } as MessagePart,
      result('1', 'the "result"'),
      text('Then.'),
    ];
    const whole = 'First 👩‍👩‍👧‍👦. Then.';
    const detail = encodeDetail(whole, parts) ?? '';
    expect(detail).not.toContain('Then');
    expect(decodeDetail(whole, detail)).toEqual(parts);
  });

  it('the stored detail contains the end of a text that the engine has not recorded, as of an answer that was cut', () => {
    const detail = encodeDetail('ab', [text('a'), call('1')]) ?? '';
    expect(decodeDetail('ab', detail)).toEqual([text('a'), call('1'), text('b')]);
  });

  it('the stored detail of a message does not exist for an answer of text only', () => {
    expect(encodeDetail('ab', [text('a'), text('b')])).toBeUndefined();
    expect(encodeDetail('ab', [])).toBeUndefined();
  });

  it('the stored detail of a message is bounded: large results are cut, each call stays', () => {
    const parts = Array.from({ length: 32 }, (_, index) => [
      call(`${index}`),
      result(`${index}`, 'x'.repeat(64 << 10)),
    ]);
    const detail = encodeDetail('', parts.flat()) ?? '';
    expect(detail.length).toBeLessThanOrEqual(512 << 10);
    const read = decodeDetail('', detail);
    expect(read.filter(({ type }) => type === 'tool_call')).toHaveLength(32);
    expect(read.at(-1)).toMatchObject({ content: expect.stringMatching(/^x+\n\[\d+ more characters\]$/) });
  });

  it('the stored detail of a message leaves out a part of a kind that a later version has added', () => {
    expect(decodeDetail('a', '[{"type":"hologram","x":1},{"type":"text","chars":1}]')).toEqual([text('a')]);
  });
});
