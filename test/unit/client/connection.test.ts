// One WebSocket of the client gives each call its answer, and ends all of them when it breaks. The platform's WebSocket
// is replaced by a fake.
import { expect, it } from 'vitest';
import type { Notification } from '../../../shared/client/events.ts';
import {
  type Connection,
  openConnection,
  type SocketLike,
  streamCall,
} from '../../../shared/client/transport/connection.ts';
import { failure } from '../../support/fixtures/gateway/client.ts';

const signal = new AbortController().signal;

/** A socket whose peer is the test. */
async function open(): Promise<{
  readonly connection: Connection;
  readonly sent: { readonly id: number; readonly method: string }[];
  receive(message: unknown): void;
}> {
  const listeners = new Map<string, Parameters<SocketLike['addEventListener']>[1]>();
  const sent: { id: number; method: string }[] = [];
  const socket: SocketLike = {
    send: (text) => void sent.push(JSON.parse(text)),
    close: () => {},
    addEventListener: (type, listener) => void listeners.set(type, listener),
  };
  const opening = openConnection(socket, signal);
  listeners.get('open')?.({ type: 'open' });
  return {
    connection: await opening,
    sent,
    receive(message) {
      const data = typeof message === 'string' ? message : JSON.stringify(message);
      listeners.get('message')?.({ type: 'message', data });
    },
  };
}

const call = { method: 'test.call', params: {}, signal };
const note = (text: string) => ({ jsonrpc: '2.0', method: 'test.note', params: { text } });

it('a connection gives each call the answer with its id', async () => {
  const { connection, sent, receive } = await open();
  const answers = [connection.call(call), connection.call(call)];
  for (const { id } of sent.toReversed()) receive({ jsonrpc: '2.0', id, result: `answer ${id}` });
  expect(await Promise.all(answers)).toEqual(['answer 1', 'answer 2']);
});

it('a connection yields the notifications before the answer, in order', async () => {
  const { connection, receive } = await open();
  const stream = streamCall(connection, call);
  const first = stream.next();
  receive(note('one'));
  receive(note('two'));
  receive({ jsonrpc: '2.0', id: 1, result: 'done' });
  const received: (Notification | unknown)[] = [(await first).value];
  for (let step = await stream.next(); ; step = await stream.next()) {
    received.push(step.value);
    if (step.done === true) break;
  }
  const notes = ['one', 'two'].map((text) => ({ method: 'test.note', params: { text } }));
  expect(received).toEqual([...notes, 'done']);
});

it('a connection ends at a message that is not JSON, and rejects the calls in flight', async () => {
  const { connection, receive } = await open();
  const answer = connection.call(call);
  receive('not JSON');
  expect((await failure(answer)).reason).toBe('network');
  expect((await failure(connection.call(call))).reason).toBe('network');
});

it('a call rejects with the reason of its signal, and the others continue', async () => {
  const { connection, receive } = await open();
  const left = new AbortController();
  const answers = [connection.call({ ...call, signal: left.signal }), connection.call(call)];
  left.abort(new Error('left'));
  await expect(answers[0]).rejects.toThrow('left');
  receive({ jsonrpc: '2.0', id: 2, result: 'kept' });
  expect(await answers[1]).toBe('kept');
});

it('a connection bounds what waits for a reader that is too slow', async () => {
  const { connection, receive } = await open();
  const stream = streamCall(connection, call);
  const first = stream.next();
  for (let count = 0; count < 40; count++) receive(note('x'.repeat(1 << 20)));
  await first;
  let yielded = 1;
  const rest = (async () => {
    for (let step = await stream.next(); step.done !== true; step = await stream.next()) yielded++;
  })();
  expect(await failure(rest)).toMatchObject({ reason: 'network', message: expect.stringContaining('too slow') });
  expect(yielded).toBeLessThanOrEqual(17);
});
