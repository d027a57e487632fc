// Every transport of the gateway answers JSON-RPC 2.0 in the same way. Run against HTTP, SSE and WebSocket. Statuses
// and headers, which only HTTP has, are checked where the transport returns them.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** One answered request. */
export interface Answer {
  /** HTTP status; undefined where the transport has none. */
  readonly status?: number;
  readonly headers?: Headers;
  /** The response, or the responses of a batch; undefined when nothing was answered. */
  readonly payload: unknown;
}

export interface Transport {
  /**
   * Sends the bytes as one request under the key and resolves with its answer; for a notification once it has been
   * taken.
   */
  call(body: string | Uint8Array, key?: CaseKey): Promise<Answer>;
  /**
   * The transport itself ends the conversation over bytes that are not UTF-8 (WebSocket, 1007): it answers
   * `{closed: 1007}`.
   */
  readonly isText?: true;
  close(): Promise<void>;
}

const TIGHT = ['tight-1', 'tight-2', 'tight-3', 'tight-4', 'tight-5', 'tight-6', 'tight-7'] as const;
export type CaseKey = 'wide' | 'webhook-only' | (typeof TIGHT)[number];

/** Calls that a tight key may make in a day; each case has one of its own. */
const TIGHT_CALLS = 5;

/** GATEWAY_KEYS of the gateway under test: key ids equal the keys. */
export const CASE_KEYS = JSON.stringify({
  keys: [
    { id: 'wide', key: 'wide', limits: '100000/minute' },
    { id: 'webhook-only', key: 'webhook-only', scopes: ['webhook'], limits: '100000/minute' },
    ...TIGHT.map((key) => ({ id: key, key, limits: `${TIGHT_CALLS}/day,100000/minute` })),
  ],
});

const STATUS = 'conversation.status';

export function call(method: string, params?: unknown, id: unknown = 1): object {
  return { jsonrpc: '2.0', method, ...(params === undefined ? {} : { params }), id };
}

export function jsonRpcCases(name: string, open: () => Promise<Transport>): void {
  describe(`${name} speaks JSON-RPC 2.0`, () => {
    let transport: Transport;
    beforeAll(async () => {
      transport = await open();
    });
    afterAll(() => transport.close());
    const send = (value: unknown, key?: CaseKey): Promise<Answer> => transport.call(JSON.stringify(value), key);
    const known = (id: unknown): object => call(STATUS, { session_id: 'missing' }, id);
    const notification = { jsonrpc: '2.0', method: STATUS, params: { session_id: 'missing' } };

    /** Statuses are the contract's where the transport has any. */
    const expectStatus = (answer: Answer, status: number): void => {
      if (answer.status !== undefined) expect(answer.status).toBe(status);
    };

    describe('ids', () => {
      it.each([[1], [0], [-7], [Number.MAX_SAFE_INTEGER], ['a'], [''], ['x'.repeat(128)], ['é𝄞\u0000'], [null]])(
        'an id comes back as it was sent: %j',
        async (id) => {
          const answer = await send(known(id));
          expectStatus(answer, 200);
          expect(answer.payload).toMatchObject({ jsonrpc: '2.0', id, result: { status: 'not_found' } });
        },
      );

      it.each([[1.5], [2 ** 53], ['x'.repeat(129)], [{}], [[1]], [true]])(
        'an id of another kind is refused with -32600 under null: %j',
        async (id) => {
          const answer = await send(known(id));
          expectStatus(answer, 400);
          expect(answer.payload).toMatchObject({ id: null, error: { code: -32600 } });
        },
      );
    });

    describe('an error', () => {
      it.each<readonly [string, string | Uint8Array, number, number, unknown]>([
        ['bad syntax', '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700, 400, null],
        ['nothing', '', -32700, 400, null],
        ['invalid UTF-8', Uint8Array.of(0x22, 0xff, 0x22), -32700, 400, null],
        ['another protocol version', '{"jsonrpc":"1.0","method":"a","id":5}', -32600, 400, 5],
        ['params that are no structure', '{"jsonrpc":"2.0","method":"a","params":"bar","id":5}', -32600, 400, 5],
        ['a duplicate key', '{"jsonrpc":"2.0","id":1,"method":"a","i\\u0064":2}', -32600, 400, null],
        ['a __proto__ key', '{"jsonrpc":"2.0","id":1,"method":"a","params":{"__proto__":{}}}', -32600, 400, null],
        ['65 levels', `${'['.repeat(65)}${']'.repeat(65)}`, -32600, 400, null],
        ['an empty batch', '[]', -32600, 400, null],
        ['51 calls', JSON.stringify(Array.from({ length: 51 }, (_, n) => known(n))), -32600, 400, null],
        ['an unknown method', JSON.stringify(call('foobar', {}, 'x')), -32601, 200, 'x'],
        ['a method of Object.prototype', JSON.stringify(call('constructor', {}, 'x')), -32601, 200, 'x'],
        ['params by position', JSON.stringify(call(STATUS, ['missing'])), -32602, 200, 1],
        ['params missing', JSON.stringify(call(STATUS)), -32602, 200, 1],
        ['params undeclared', JSON.stringify(call(STATUS, { session_id: 'a', admin: true })), -32602, 200, 1],
      ])(
        'an error is single, with its code, reason, request id and retryability: %s',
        async (_name, body, code, status, id) => {
          const answer = await transport.call(body);
          expectStatus(answer, status);
          if (transport.isText === true && typeof body !== 'string') {
            expect(answer.payload).toEqual({ closed: 1007 });
            return;
          }
          expect(answer.payload).toEqual({
            jsonrpc: '2.0',
            id,
            error: {
              code,
              message: expect.any(String),
              data: expect.objectContaining({
                reason: expect.any(String),
                request_id: expect.stringMatching(/^req_[0-9a-f]{32}$/),
                retryable: false,
              }),
            },
          });
        },
      );

      it('an error about params contains the path of each mistake', async () => {
        const { payload } = await send(call('conversation.prompt', { prompt: 5, on_busy: 'panic' }));
        expect(payload).toMatchObject({
          error: {
            code: -32602,
            data: {
              issues: [
                { path: 'prompt', message: expect.any(String) },
                { path: 'on_busy', message: expect.any(String) },
              ],
            },
          },
        });
      });

      it.each<readonly [string, string, unknown, string]>([
        ['a missing param', STATUS, {}, 'session_id is required'],
        [
          'a misspelt one',
          STATUS,
          { sessionId: 'a' },
          'session_id is required; sessionId is not known, did you mean session_id?',
        ],
        ['an unknown one', STATUS, { session_id: 'a', verbose: true }, 'verbose is not known'],
        ['one of another type', STATUS, { session_id: 5 }, 'session_id must be a string'],
        [
          'a word that is none of its',
          'conversation.prompt',
          { prompt: 'a', on_busy: 'panic' },
          'on_busy must be "reject", "queue" or "interrupt"',
        ],
        ['an empty one', 'conversation.prompt', { prompt: '' }, 'prompt must not be empty'],
        ['a blank one', 'conversation.prompt', { prompt: ' \n\t' }, 'prompt must contain more than white space'],
        ['params by position', STATUS, ['a'], 'params must be given by name, in an object'],
      ])('an error about params states what is wrong: %s', async (_name, method, params, message) => {
        const { payload } = await send(call(method, params));
        expect(payload).toMatchObject({ error: { code: -32602, message } });
        expect(dataOf(payload).issues).toMatchObject(message.split('; ').map((expected) => ({ message: expected })));
      });

      it.each([
        ['UTF-8', '\ufeff{}', /byte order mark/],
        ['UTF-16', Uint8Array.of(0xff, 0xfe, 0x7b, 0, 0x7d, 0), /UTF-16/],
      ])('an error about a byte order mark names it: %s', async (_name, body, expected) => {
        const answer = await transport.call(body);
        if (transport.isText === true && typeof body !== 'string') expect(answer.payload).toEqual({ closed: 1007 });
        else expect(dataOf(answer.payload).detail).toMatch(expected);
      });

      it('an empty list of params equals absent params', async () => {
        expect((await send(call('rpc.discover', []))).payload).toMatchObject({ result: { openrpc: '1.4.0' } });
        expect((await send(call('conversation.list', []))).payload).toMatchObject({ result: { conversations: [] } });
        expect((await send(call(STATUS, []))).payload).toMatchObject({ error: { message: 'session_id is required' } });
      });

      it('an error about a missing scope names it, before the params are looked at', async () => {
        const answer = await send(call('conversation.prompt', { wrong: true }), 'webhook-only');
        expectStatus(answer, 200);
        expect(answer.payload).toMatchObject({
          error: { code: 403, data: { reason: 'forbidden', missing_scope: 'conversation' } },
        });
        expect((await send(call('rpc.discover'), 'webhook-only')).payload).toMatchObject({
          result: { openrpc: expect.stringMatching(/^1\.4\./) },
        });
      });
    });

    describe('a batch', () => {
      it('a batch of 50 is answered call by call', async () => {
        const answer = await send(Array.from({ length: 50 }, (_, n) => known(n)));
        expectStatus(answer, 200);
        expect(answer.payload).toHaveLength(50);
        expect(idsOf(answer.payload).toSorted((a, b) => Number(a) - Number(b))).toEqual(
          Array.from({ length: 50 }, (_, n) => n),
        );
      });

      it('a batch of the specification’s mixed example is 200 with one response for each call that is no notification', async () => {
        const answer = await send([known('1'), notification, { foo: 'boo' }, call('foo.get', {}, '5'), 1, [known(9)]]);
        expectStatus(answer, 200);
        expect(answer.payload).toMatchObject([
          { id: '1', result: { status: 'not_found' } },
          { id: null, error: { code: -32600 } },
          { id: '5', error: { code: -32601 } },
          { id: null, error: { code: -32600 } },
          { id: null, error: { code: -32600 } },
        ]);
      });

      it('a batch of one call is answered as a batch of one', async () => {
        expect((await send([known(1)])).payload).toMatchObject([{ id: 1 }]);
      });
    });

    describe('a notification', () => {
      it.each<readonly [string, unknown]>([
        ['of a known method', notification],
        ['of an unknown method', { jsonrpc: '2.0', method: 'nope' }],
        ['with wrong params', { jsonrpc: '2.0', method: STATUS, params: [] }],
        ['in a batch of its like', [notification, notification]],
      ])('a notification is never answered: %s', async (_name, value) => {
        const answer = await send(value);
        expectStatus(answer, 204);
        expect(answer.payload).toBeUndefined();
      });

      it('a notification runs its method, without an answer', async () => {
        const session_id = `notified-${name}`;
        await send({ jsonrpc: '2.0', method: 'conversation.prompt', params: { prompt: 'hi', session_id } });
        expect((await send(call(STATUS, { session_id }))).payload).toMatchObject({
          result: { session_id, status: 'idle' },
        });
      });
    });

    describe('limits', () => {
      const refused = {
        code: 429,
        data: { reason: 'rate_limited', retryable: true, limit: TIGHT_CALLS, remaining: 0 },
      };

      it('limits admit the allowed calls, then answer 429 with limit, remaining, reset and Retry-After', async () => {
        for (let n = 0; n < TIGHT_CALLS; n++) expectStatus(await send(known(n), 'tight-1'), 200);
        const answer = await send(known('late'), 'tight-1');
        expectStatus(answer, 429);
        expect(answer.payload).toMatchObject({ id: 'late', error: refused });
        const { reset, retry_after_ms } = dataOf(answer.payload);
        expect(Number(reset) * 1000 - Date.now()).toBeGreaterThan(0);
        expect(Number(reset) % 86_400).toBe(0);
        expect(Math.abs(Number(reset) * 1000 - Date.now() - Number(retry_after_ms))).toBeLessThan(10_000);
      });

      it('a batch is charged its length at once: over the limit nothing of it runs and nothing is charged', async () => {
        const key = 'tight-2';
        expectStatus(await send([known(1), known(2), known(3)], key), 200);
        const answer = await send([known(1), known('b'), notification], key);
        expectStatus(answer, 429);
        const error = { ...refused, data: { ...refused.data, remaining: TIGHT_CALLS - 3 } };
        expect(answer.payload).toMatchObject([
          { id: 1, error },
          { id: 'b', error },
        ]);
        expectStatus(await send([known(1), known(2)], key), 200);
        expect((await send(known(1), key)).payload).toMatchObject({ error: refused });
      });

      it('unknown methods, wrong params and unreadable bodies are counted, so that failing is not free', async () => {
        const key = 'tight-3';
        await send(call('nope'), key);
        await send(call(STATUS, []), key);
        await transport.call('{', key);
        await send([], key);
        await send({ jsonrpc: '2.0', method: 'nope' }, key);
        expect((await send(known(1), key)).payload).toMatchObject({ error: refused });
      });

      it('free calls pass when nothing is left, and are not counted', async () => {
        const key = 'tight-7';
        const free = [call('rpc.discover'), call('auth.limits')];
        for (const one of [...free, free]) expectStatus(await send(one, key), 200);
        const left = async (): Promise<unknown> => (await send(call('auth.limits'), key)).payload;
        const day = (remaining: number) => ({
          result: { windows: [{ limit: TIGHT_CALLS, remaining }, { limit: 100_000 }] },
        });
        expect(await left()).toMatchObject(day(TIGHT_CALLS));
        // Of a batch only what is not free counts.
        expectStatus(await send([known(1), ...free], key), 200);
        expect(await left()).toMatchObject(day(TIGHT_CALLS - 1));
        for (let n = 1; n < TIGHT_CALLS; n++) await send(known(n), key);
        expect((await send(known(1), key)).payload).toMatchObject({ error: refused });
        expect(await left()).toMatchObject(day(0));
      });

      it('one key’s calls do not count for another key’s limits', async () => {
        for (let n = 0; n < TIGHT_CALLS; n++) await send(known(n), 'tight-4');
        expect((await send(known(1), 'tight-4')).payload).toMatchObject({ error: refused });
        expect((await send(known(1), 'tight-5')).payload).toMatchObject({ result: {} });
      });

      it('limits hold for concurrent calls: never one too many is admitted', async () => {
        const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => send(known(n), 'tight-6')));
        const admitted = answers.filter(({ payload }) => hasMember(payload, 'result'));
        expect(admitted).toHaveLength(TIGHT_CALLS);
      });
    });
  });
}

function hasMember(payload: unknown, member: string): boolean {
  return typeof payload === 'object' && payload !== null && member in payload;
}

/** `error.data` of a response. */
function dataOf(payload: unknown): Record<string, unknown> {
  return (payload as { readonly error: { readonly data: Record<string, unknown> } }).error.data;
}

function idsOf(payload: unknown): unknown[] {
  return (payload as readonly { readonly id: unknown }[]).map(({ id }) => id);
}
