// A WebSocket that is kept open is opened again after every lost connection. The suite runs against a real gateway
// behind a proxy that loses connections.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import { KeptSocket, type SocketState } from '../../../shared/client/transport/kept-socket.ts';
import { METHODS, NOTIFICATIONS, PATHS } from '../../../shared/protocol.ts';
import { createFixture, type Fixture, failure, KEY } from '../../support/fixtures/gateway/client.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(() => fixture.close());

const opened: KeptSocket[] = [];
afterEach(() => {
  for (const socket of opened.splice(0)) socket.close();
});

interface Opened {
  readonly socket: KeptSocket;
  readonly states: SocketState[];
  readonly errors: unknown[];
  /** Resolves when the socket has this state. */
  until(state: SocketState): Promise<void>;
}

function open({ key = KEY, path = PATHS.socket }: { key?: string; path?: string } = {}): Opened {
  const states: SocketState[] = [];
  const errors: unknown[] = [];
  const waiting = new Set<() => void>();
  const notify = (): void => {
    for (const check of [...waiting]) check();
  };
  const socket = new KeptSocket({
    endpoint: { url: fixture.proxy.url, key, fetch },
    socketUrl: `${fixture.proxy.url.replace('http', 'ws')}${path}`,
    Socket: WebSocket,
    onState(state) {
      states.push(state);
      notify();
    },
    onError(error) {
      errors.push(error);
      notify();
    },
  });
  opened.push(socket);
  const until = (state: SocketState): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (socket.state !== state) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    });
  return { socket, states, errors, until };
}

const signal = new AbortController().signal;

describe('a socket that is kept open', () => {
  it('a kept socket answers calls, in any order, and passes notifications', async () => {
    const { socket } = open();
    await socket.settled(signal);
    const received = Promise.withResolvers<unknown>();
    socket.listen(({ method, params }) => {
      if (method === NOTIFICATIONS.webhookEvent) received.resolve(params.event);
    });
    const connection = socket.current();
    const [limits, subscribed] = await Promise.all([
      connection.call({ method: METHODS.limits, params: {}, signal }),
      connection.call({ method: METHODS.subscribe, params: {}, signal }),
    ]);
    expect(limits).toMatchObject({ key_id: 'default' });
    expect(subscribed).toMatchObject({ subscription_id: expect.any(String) });
    await fetch(`${fixture.gateway.url}${PATHS.webhook}`, {
      method: 'POST',
      headers: { 'X-API-Key': KEY },
      body: JSON.stringify({ event: 'kept.open', data: {} }),
    });
    expect(await received.promise).toBe('kept.open');
  });

  it('a socket that is kept open is opened again after a cut; the call in flight is rejected, and the state has changed by then', async () => {
    const { socket, states, until } = open();
    await socket.settled(signal);
    fixture.provider.behave(() => ({ chunks: ['a'], gate: () => new Promise(() => {}) }));
    const call = socket.current().call({ method: METHODS.prompt, params: { prompt: 'hi' }, signal });
    const stateThen = call.catch(() => socket.state);
    fixture.proxy.cut();
    expect((await failure(call)).reason).toBe('network');
    expect(await stateThen).toBe('reconnecting');
    await until('open');
    fixture.provider.behave();
    expect(states).toEqual(['open', 'reconnecting', 'open']);
    expect(await socket.current().call({ method: METHODS.limits, params: {}, signal })).toHaveProperty('windows');
  });

  it('a socket that is kept open is absent when it never opens, until it is retried', async () => {
    const { socket, states, until } = open({ path: '/nowhere' });
    await socket.settled(signal);
    expect(states).toEqual(['connecting', 'connecting', 'absent']);
    expect(() => socket.current()).toThrow(expect.objectContaining({ reason: 'network' }));
    socket.retry();
    await until('connecting');
  });

  it('a kept socket stops at a key that is not valid', async () => {
    const { socket, states, errors } = open({ key: 'not-the-key' });
    await expect.poll(() => errors.length).toBe(1);
    expect(errors).toEqual([expect.any(GatewayError)]);
    expect(errors).toEqual([expect.objectContaining({ reason: 'unauthorized' })]);
    expect([states, socket.state]).toEqual([[], 'connecting']);
  });

  it('a socket that is kept open lets a caller stop waiting for it', async () => {
    const { socket } = open({ path: '/nowhere' });
    const left = new AbortController();
    const settled = socket.settled(left.signal);
    left.abort(new Error('left'));
    await expect(settled).rejects.toThrow('left');
  });
});
