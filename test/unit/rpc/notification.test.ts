// The text of a notification is shortened where a message cannot carry it, and is put together around members that
// readers share.
import { expect, it } from 'vitest';
import { aroundShared, notificationText } from '../../../shared/rpc/notification.ts';

const MIB = 1 << 20;
const read = (text: string) => JSON.parse(text) as { readonly method: string; readonly params: object };

it('a notification that fits is sent as it is', () => {
  const params = { seq: 1, event: { AgentMessage: { message: 'x'.repeat(100_000) } } };
  expect(read(notificationText('conversation.event', params, MIB))).toEqual({
    jsonrpc: '2.0',
    method: 'conversation.event',
    params,
  });
});

it('the long strings of a larger notification are cut, with no half of a character, and its params are marked', () => {
  const message = `${'x'.repeat((64 << 10) - 1)}${'😀'.repeat(500_000)}`;
  const text = notificationText('conversation.event', { seq: 1, event: { AgentMessage: { message } } }, MIB);
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MIB);
  expect(read(text).params).toEqual({
    seq: 1,
    event: { AgentMessage: { message: `${'x'.repeat((64 << 10) - 1)}\ufffd` } },
    truncated: true,
  });
});

it('the short members of a notification stay where cutting does not help', () => {
  const text = notificationText('event', { seq: 1, id: 'a', data: Array(600_000).fill(1) }, MIB);
  expect(read(text).params).toEqual({ seq: 1, id: 'a', truncated: true });
});

it.each([{}, { cursor: 'c' }])('shared members follow those of the reader: %j', (own) => {
  const { head, tail } = aroundShared('event', own);
  expect(read(`${head}"data":1${tail}`)).toEqual({ jsonrpc: '2.0', method: 'event', params: { ...own, data: 1 } });
});
