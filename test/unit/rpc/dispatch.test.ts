// The dispatcher calls the gates and the method in a fixed order, charges a request once, and logs every failure.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type Reason, RpcError } from '../../../shared/errors.ts';
import { dispatch } from '../../../shared/rpc/dispatch.ts';
import type { CallRecord, Reply, RequestHooks } from '../../../shared/rpc/exchange.ts';
import { type AnyMethod, createRegistry, type MethodDefinition, type Registry } from '../../../shared/rpc/method.ts';

interface Trace {
  readonly trace: string[];
}

function method(
  name: string,
  handle: (params: { text: string }, context: Trace) => Promise<unknown>,
): AnyMethod<Trace> {
  const definition: MethodDefinition<Trace, z.ZodObject<{ text: z.ZodString }>, z.ZodType> = {
    name,
    summary: name,
    scope: 'conversation',
    cost: 'read',
    params: z.strictObject({ text: z.string().max(10) }),
    result: z.object({ text: z.string() }),
    example: { params: { text: 'a' }, result: { text: 'a' } },
    handle,
  };
  return definition;
}

const registry = createRegistry<Trace>([
  method('echo', async ({ text }, { trace }) => {
    trace.push('handle');
    return { text, secret: 'undeclared' };
  }),
  method('broken.result', async () => ({ wrong: true })),
  method('broken.throw', async () => {
    throw new Error('connection string postgres://user:hunter2@db');
  }),
  method('fails', async () => {
    throw new RpcError('not_found', { data: { session_id: 's' } });
  }),
]);

interface Dispatched {
  readonly reply: Pick<Reply, 'status'> & { readonly payload: unknown };
  readonly trace: readonly string[];
  readonly audit: readonly CallRecord[];
}

/** A method that fails for the reason. */
function dispatchMethod(reason: Reason): Promise<Dispatched> {
  const failing = method('failing', async () => {
    throw new RpcError(reason);
  });
  return send(bodyOf(call('failing')), {}, createRegistry([failing]));
}

async function send(
  body: string | RpcError,
  hooks: Partial<RequestHooks<Trace>> = {},
  methods: Registry<Trace> = registry,
): Promise<Dispatched> {
  const trace: string[] = [];
  const audit: CallRecord[] = [];
  const reply = await dispatch(methods, {
    body: typeof body === 'string' ? Buffer.from(body) : body,
    requestId: 'req_1',
    hooks: {
      isStoreRemote: hooks.isStoreRemote ?? true,
      async limit(cost, methods) {
        trace.push(`limit ${cost} ${methods.map((known) => known?.name ?? '?').join()}`.trim());
        return hooks.limit?.(cost, methods);
      },
      authorize(method) {
        trace.push(`authorize ${method.name}`);
        hooks.authorize?.(method);
      },
      ...(hooks.place && { place: hooks.place }),
      context: () => ({ trace }),
      audit: (record) => audit.push(record),
    },
  });
  const { text, ...rest } = reply;
  return { reply: { ...rest, payload: text === undefined ? undefined : JSON.parse(text) }, trace, audit };
}

function call(name: string, params: unknown = { text: 'hi' }, id: unknown = 1): object {
  return { jsonrpc: '2.0', method: name, ...(params === ABSENT ? {} : { params }), id };
}
const ABSENT = Symbol('absent');
const bodyOf = (...calls: readonly object[]): string => JSON.stringify(calls.length === 1 ? calls[0] : calls);
const limited: Partial<RequestHooks<Trace>> = {
  async limit() {
    return new RpcError('rate_limited', { retryAfterMs: 1234.5, data: { limit: 1, remaining: 0, reset: 60 } });
  },
};

describe('a call of a method that starts early', () => {
  const early = (handle: Parameters<typeof method>[1]) =>
    createRegistry<Trace>([{ ...method('early', handle), startsEarly: true }]);
  const limit = (refusal?: RpcError) => ({
    async limit() {
      // After more than one iteration of the event loop, as a commit.
      await nextTurn();
      await nextTurn();
      return refusal;
    },
  });

  it('a call of a method that starts early is handled while the limiter counts it, and answered after that', async () => {
    const methods = early(async ({ text }, { trace }) => {
      trace.push('handle');
      return { text };
    });
    const { reply, trace } = await send(bodyOf(call('early')), limit(), methods);
    expect(trace).toEqual(['limit 1 early', 'authorize early', 'handle']);
    expect(reply).toMatchObject({ status: 200, payload: { result: { text: 'hi' } } });
  });

  it('a call that starts early has the refusal of the limiter, whatever its handler does, and is logged once', async () => {
    const refusal = new RpcError('rate_limited', { data: { limit: 1, remaining: 0, reset: 60 } });
    const fails = early(async () => {
      throw new Error('unreachable');
    });
    for (const methods of [early(async ({ text }) => ({ text })), fails]) {
      const { reply, audit } = await send(bodyOf(call('early')), limit(refusal), methods);
      expect(reply).toMatchObject({ status: 429, payload: { error: { code: 429 } } });
      expect(audit).toMatchObject([{ method: 'request', outcome: 'rate_limited' }]);
    }
  });

  it('a call of a method that starts early is not begun without its scope or with invalid params, and not before a limiter that decides at once', async () => {
    const methods = early(async ({ text }, { trace }) => {
      trace.push('handle');
      return { text };
    });
    const invalid = await send(bodyOf(call('early', { wrong: 1 })), limit(), methods);
    expect(invalid.trace).not.toContain('handle');
    expect(invalid.reply).toMatchObject({ payload: { error: { code: -32602 } } });
    const refused = await send(bodyOf(call('early')), limited, methods);
    expect(refused.trace).toEqual(['limit 1 early']);
  });

  it('a call of a method that starts early is handled after the limiter where the store is in this process', async () => {
    const seen: string[] = [];
    const methods = early(async ({ text }) => {
      seen.push('handle');
      return { text };
    });
    const counted = {
      async limit() {
        await limit().limit();
        seen.push('decided');
        return undefined;
      },
    };
    await send(bodyOf(call('early')), { ...counted, isStoreRemote: false }, methods);
    expect(seen).toEqual(['decided', 'handle']);
  });

  const bulky = (trace: string[]) =>
    createRegistry<Trace>([
      {
        ...method('bulky', async ({ text }) => {
          trace.push('handle');
          return { text };
        }),
        startsEarly: true,
        isBulky: true,
      },
    ]);

  it('a call that starts early frees its slot among the large responses before a slow limiter has decided', async () => {
    const seen: string[] = [];
    const freed = Promise.withResolvers<void>();
    const hooks: Partial<RequestHooks<Trace>> = {
      async limit() {
        await freed.promise;
        seen.push('decided');
        return undefined;
      },
      async place() {
        seen.push('slot');
        return () => {
          seen.push('free');
          freed.resolve();
        };
      },
    };
    const { reply } = await send(bodyOf(call('bulky')), hooks, bulky(seen));
    expect(seen).toEqual(['slot', 'handle', 'free', 'decided']);
    expect(reply).toMatchObject({ status: 200, payload: { result: { text: 'hi' } } });
  });

  it('a call of a method that starts early begins before the decision only beside one other', async () => {
    const seen: string[] = [];
    const decided = Promise.withResolvers<void>();
    const hooks: Partial<RequestHooks<Trace>> = {
      async limit() {
        await decided.promise;
        seen.push('decided');
        return undefined;
      },
    };
    const calls = ['a', 'b', 'c'].map(() => send(bodyOf(call('bulky')), hooks, bulky(seen)));
    await expect.poll(() => seen).toEqual(['handle', 'handle']);
    decided.resolve();
    for (const { reply } of await Promise.all(calls)) expect(reply).toMatchObject({ status: 200 });
    expect(seen.filter((step) => step === 'handle')).toHaveLength(3);
    expect(seen.indexOf('decided')).toBe(2);
  });

  it('a call of a method that starts early does not run when it gets its slot after its refusal, and frees it', async () => {
    const seen: string[] = [];
    const slot = Promise.withResolvers<void>();
    const freed = Promise.withResolvers<void>();
    const hooks: Partial<RequestHooks<Trace>> = {
      ...limit(new RpcError('rate_limited')),
      async place() {
        await slot.promise;
        return freed.resolve;
      },
    };
    const { reply } = await send(bodyOf(call('bulky')), hooks, bulky(seen));
    expect(reply).toMatchObject({ status: 429 });
    slot.resolve();
    await freed.promise;
    expect(seen).toEqual([]);
  });
});

describe('a call', () => {
  it('a call is charged, looked up, authorized and handled in this order, its result stripped to what is declared', async () => {
    const { reply, trace, audit } = await send(bodyOf(call('echo')));
    expect(trace).toEqual(['limit 1 echo', 'authorize echo', 'handle']);
    expect(reply).toEqual({ status: 200, payload: { jsonrpc: '2.0', result: { text: 'hi' }, id: 1 } });
    expect(audit).toEqual([{ method: 'echo', outcome: 'ok', durationMs: expect.any(Number), details: {} }]);
  });

  it('a call of an unknown method is charged like any other, and its name is not written to the log', async () => {
    const { reply, trace, audit } = await send(bodyOf(call('__proto__')));
    expect(trace).toEqual(['limit 1 ?']);
    expect(reply).toMatchObject({
      status: 200,
      payload: { error: { code: -32601, data: { reason: 'method_not_found' } } },
    });
    expect(audit).toMatchObject([{ method: 'unknown', outcome: 'method_not_found' }]);
  });

  it('a call of an unknown method is -32601 to callers of every scope: the look-up is first', async () => {
    const { reply, trace } = await send(bodyOf(call('nope', ['wrong'])), {
      authorize() {
        throw new RpcError('forbidden');
      },
    });
    expect(trace).toEqual(['limit 1 ?']);
    expect(reply).toMatchObject({ status: 200, payload: { error: { code: -32601 } } });
  });

  it('a call without the scope is refused before its params are read', async () => {
    const { reply, trace } = await send(bodyOf(call('echo', { wrong: 1 })), {
      authorize() {
        throw new RpcError('forbidden', { data: { missing_scope: 'conversation' } });
      },
    });
    expect(trace).toEqual(['limit 1 echo', 'authorize echo']);
    expect(reply).toMatchObject({
      status: 200,
      payload: { error: { code: 403, data: { missing_scope: 'conversation' } } },
    });
  });

  it.each<readonly [string, unknown, readonly string[]]>([
    ['by position', ['hi'], ['']],
    ['of the wrong type', { text: 5 }, ['text']],
    ['missing', {}, ['text']],
    ['absent', ABSENT, ['text']],
    ['undeclared', { text: 'hi', role: 'admin' }, ['role']],
  ])('a call with params %s is -32602 with paths, and its method is not run', async (_name, params, paths) => {
    const { reply, trace } = await send(bodyOf(call('echo', params)));
    expect(trace).not.toContain('handle');
    expect(reply.status).toBe(200);
    expect(reply.payload).toMatchObject({
      error: { code: -32602, data: { issues: paths.map((path) => ({ path, message: expect.any(String) })) } },
    });
  });

  it('a call with a thousand mistakes returns twenty short issues', async () => {
    const params = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`k${n}${'x'.repeat(500)}`, n]));
    const { reply } = await send(bodyOf(call('echo', params)));
    expect(JSON.stringify(reply.payload).length).toBeLessThan(10_000);
  });
});

describe('failures', () => {
  it.each(['broken.throw', 'broken.result'])('a failure of the gateway itself is masked: %s', async (name) => {
    const { reply, audit } = await send(bodyOf(call(name)));
    expect(reply).toEqual({
      status: 500,
      payload: {
        jsonrpc: '2.0',
        error: {
          code: -32603,
          message: 'Internal error',
          data: { reason: 'internal', request_id: 'req_1', retryable: true },
        },
        id: 1,
      },
    });
    expect(audit[0]?.error?.cause).toBeInstanceOf(Error);
  });

  it('a failure that a method answers keeps its data and the status 200', async () => {
    const { reply } = await send(bodyOf(call('fails')));
    expect(reply).toMatchObject({
      status: 200,
      payload: {
        error: { code: 404, data: { reason: 'not_found', session_id: 's', request_id: 'req_1', retryable: false } },
      },
    });
  });

  it.each([
    ...(['not_found', 'forbidden', 'conflict', 'payload_too_large', 'unauthorized', 'upstream_error'] as const),
    ...(['invalid_request', 'unsupported_media_type', 'cancelled', 'upstream_timeout'] as const),
  ])(
    'a failure that a method answers is 200 over HTTP, whatever the status of the same failure before it: %s',
    async (reason) => {
      const { reply } = await dispatchMethod(reason);
      expect(reply).toMatchObject({ status: 200, payload: { id: 1, error: { data: { reason } } } });
    },
  );

  it.each([
    ['rate_limited', 429],
    ['unavailable', 503],
    ['internal', 500],
  ] as const)(
    'a failure that a method answers has its status where an HTTP client acts on it: %s',
    async (reason, status) => {
      expect(await dispatchMethod(reason)).toMatchObject({
        reply: { status, payload: { id: 1, error: { data: { reason } } } },
      });
    },
  );

  it('a failure of an envelope has its status, under an id that could be read', async () => {
    const { reply } = await send(bodyOf({ jsonrpc: '1.0', method: 'echo', id: 7 }));
    expect(reply).toMatchObject({ status: 400, payload: { id: 7, error: { code: -32600 } } });
  });

  it('a failure of a gate that is no RpcError is masked too', async () => {
    const { reply } = await send(bodyOf(call('echo')), {
      async limit() {
        throw new Error('hunter2');
      },
    });
    expect(reply).toMatchObject({ status: 500, payload: { error: { message: 'Internal error' } } });
    expect(JSON.stringify(reply)).not.toContain('hunter2');
  });
});

describe('an unreadable body', () => {
  it.each<readonly [string, string | RpcError, number, number]>([
    ['bad syntax', '{', 400, -32700],
    ['a duplicate key', '{"id":1,"id":2}', 400, -32600],
    ['an empty batch', '[]', 400, -32600],
    ['51 calls', JSON.stringify(Array.from({ length: 51 }, () => 1)), 400, -32600],
    ['too many bytes', new RpcError('payload_too_large'), 413, 413],
    ['a compressed body', new RpcError('unsupported_media_type'), 415, 415],
  ])('an unreadable body costs 1 and is answered once with id null: %s', async (_name, body, status, code) => {
    const { reply, trace, audit } = await send(body);
    expect(trace).toEqual(['limit 1']);
    expect(reply).toMatchObject({ status, payload: { jsonrpc: '2.0', id: null, error: { code } } });
    expect(audit).toHaveLength(1);
  });

  it('an unreadable body of a caller over its limit is 429, not a free parser', async () => {
    const { reply } = await send('{', limited);
    expect(reply).toMatchObject({ status: 429, payload: { id: null, error: { code: 429 } } });
  });
});

describe('a batch', () => {
  it('a batch of n costs n at once, bad calls and notifications included', async () => {
    const { trace } = await send(bodyOf(call('echo'), call('nope'), { jsonrpc: '2.0', method: 'echo' }, { bad: true }));
    expect(trace[0]).toBe('limit 4 echo,?,echo,?');
    expect(trace.filter((step) => step.startsWith('limit'))).toHaveLength(1);
  });

  it('a batch answers each call under its id, in order, with 200 also when calls fail', async () => {
    const { reply } = await send(
      bodyOf(call('echo', { text: 'a' }, 'x'), call('broken.throw', undefined, 2), call('nope', {}, 3), { id: 4 }),
    );
    expect(reply).toMatchObject({
      status: 200,
      payload: [
        { id: 'x', result: { text: 'a' } },
        { id: 2, error: { code: -32603 } },
        { id: 3, error: { code: -32601 } },
        { id: 4, error: { code: -32600 } },
      ],
    });
  });

  it('a batch over the limit is 429, every call answered under its own id, nothing run', async () => {
    const { reply, trace } = await send(
      bodyOf(call('echo'), call('echo', {}, 'b'), { jsonrpc: '2.0', method: 'echo' }),
      limited,
    );
    expect(trace).toEqual(['limit 3 echo,echo,echo']);
    expect(reply.status).toBe(429);
    expect(reply.payload).toMatchObject([
      { id: 1, error: { code: 429, data: { limit: 1, remaining: 0, reset: 60, retry_after_ms: 1235 } } },
      { id: 'b', error: { code: 429 } },
    ]);
    expect(reply.payload).toHaveLength(2);
  });
});

describe('a notification', () => {
  const notification = (name: string): object => ({ jsonrpc: '2.0', method: name, params: { text: 'hi' } });

  it.each(['echo', 'nope', 'fails', 'broken.throw'])('a notification is never answered: %s', async (name) => {
    expect((await send(bodyOf(notification(name)))).reply).toEqual({ status: 204, payload: undefined });
  });

  it('a notification over the limit is not run; HTTP has the status of the refusal, other transports send no response', async () => {
    for (const body of [bodyOf(notification('echo')), bodyOf(notification('echo'), notification('nope'))]) {
      const { reply, trace } = await send(body, limited);
      expect(trace).toEqual([expect.stringMatching(/^limit/)]);
      expect(reply).toMatchObject({ status: 429, unanswered: true, payload: { id: null, error: { code: 429 } } });
    }
  });

  it('a notification runs its method and is audited', async () => {
    const { trace, audit } = await send(bodyOf(notification('echo')));
    expect(trace).toContain('handle');
    expect(audit).toMatchObject([{ method: 'echo', outcome: 'ok' }]);
  });

  it('a notification leaves a batch of notifications without an answer, and a mixed one with the answers of its calls', async () => {
    expect((await send(bodyOf(notification('echo'), notification('nope')))).reply).toEqual({
      status: 204,
      payload: undefined,
    });
    const { reply } = await send(bodyOf(notification('echo'), call('echo', { text: 'a' }, null)));
    expect(reply).toEqual({ status: 200, payload: [{ jsonrpc: '2.0', result: { text: 'a' }, id: null }] });
  });
});

describe('a registry', () => {
  it('a registry refuses two methods of one name', () => {
    expect(() => createRegistry([method('a', async () => ({})), method('a', async () => ({}))])).toThrow(
      'defined twice',
    );
  });
});

describe('a client that has gone', () => {
  it('the reads of a batch are not run after a disconnect, but its changes are', async () => {
    const gone = new AbortController();
    const ran: string[] = [];
    const note = (name: string, cost: 'read' | 'work'): AnyMethod<Trace> => ({
      ...method(name, async ({ text }) => {
        ran.push(`${name} ${text}`);
        if (ran.length === 8) gone.abort();
        return { text };
      }),
      cost,
    });
    const calls = Array.from({ length: 20 }, (_, n) => call(n % 2 === 0 ? 'look' : 'change', { text: String(n) }, n));
    const { text } = await dispatch(createRegistry([note('look', 'read'), note('change', 'work')]), {
      body: Buffer.from(JSON.stringify(calls)),
      requestId: 'req_1',
      signal: gone.signal,
      hooks: { limit: async () => undefined, authorize() {}, context: () => ({ trace: [] }), audit() {} },
    });
    expect(ran.filter((name) => name.startsWith('change'))).toHaveLength(10);
    expect(ran.filter((name) => name.startsWith('look')).length).toBeLessThan(10);
    expect(JSON.parse(text ?? '').at(-2)).toMatchObject({ id: 18, error: { code: 499 } });
  });
});

describe('the calls of a batch', () => {
  it('the calls of a batch run 8 at a time at most', async () => {
    let running = 0;
    let most = 0;
    const counting = method('counting', async ({ text }) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      return { text };
    });
    const calls = Array.from({ length: 50 }, (_, n) => call('counting', { text: 'a' }, n));
    const { reply } = await send(bodyOf(...calls), {}, createRegistry([counting]));
    expect(reply.payload).toHaveLength(50);
    expect([most, running]).toEqual([8, 0]);
  });
});

describe('a call that lasts as long as its reader', () => {
  it('a call that lasts as long as its reader takes no place of a batch', async () => {
    const open = Promise.withResolvers<void>();
    const endless: AnyMethod<Trace> = {
      ...method('endless', async ({ text }) => {
        await open.promise;
        return { text };
      }),
      isEndless: true,
    };
    const last = method('last', async ({ text }) => {
      open.resolve();
      return { text };
    });
    const calls = [...Array.from({ length: 20 }, (_, n) => call('endless', { text: 'a' }, n)), call('last')];
    const { text } = await dispatch(createRegistry([endless, last]), {
      body: Buffer.from(JSON.stringify(calls)),
      requestId: 'req_1',
      hooks: { limit: async () => undefined, authorize() {}, context: () => ({ trace: [] }), audit() {} },
    });
    expect(JSON.parse(text ?? '')).toHaveLength(21);
  });
});

describe('a number that JavaScript would round', () => {
  it('a number that JavaScript would round is -32602 of its call alone, with its place', async () => {
    const echo = (id: number, params: string) => `{"jsonrpc":"2.0","id":${id},"method":"echo","params":${params}}`;
    const { reply } = await send(`[${echo(1, '{"a":[{"b":9007199254740993}]}')},${echo(2, '{"text":"x"}')}]`);
    expect(reply.payload).toMatchObject([
      { id: 1, error: { code: -32602, data: { issues: [{ path: 'a.0.b' }] } } },
      { id: 2, result: { text: 'x' } },
    ]);
  });

  it('a number that JavaScript would round is no id', async () => {
    const { reply } = await send('{"jsonrpc":"2.0","id":1.0000000000000000001,"method":"echo","params":{"text":"x"}}');
    expect(reply.payload).toMatchObject({ id: null, error: { code: -32600 } });
  });
});

describe('the calls of large requests', () => {
  const runIterations = async (isSpread: boolean, bodies: readonly string[]): Promise<number> => {
    let iteration = 0;
    let isOver = false;
    const count = (): void => {
      iteration++;
      if (!isOver) setImmediate(count);
    };
    setImmediate(count);
    const at: number[] = [];
    const noted = method('noted', async ({ text }) => {
      at.push(iteration);
      return { text };
    });
    // The limiter releases the calls that it has counted together.
    const limited = nextTurn();
    const hooks: RequestHooks<Trace> = {
      isStoreRemote: false,
      limit: () => limited.then(() => undefined),
      authorize() {},
      context: () => ({ trace: [] }),
      audit() {},
    };
    const sent = bodies.map((body) =>
      dispatch(createRegistry([noted]), { body: Buffer.from(body), requestId: 'r', hooks, isSpread }),
    );
    await Promise.all(sent);
    isOver = true;
    expect(at).toHaveLength(bodies.join().split(one).length - 1);
    return new Set(at).size;
  };
  const one = bodyOf(call('noted', { text: 'a' }));

  it.each([
    ['single calls', [one, one, one, one]],
    ['calls of a batch', [`[${one},${one},${one},${one}]`]],
  ])(
    'a call of a large request runs in an iteration of the event loop of its own; those of small ones share: %s',
    async (_, bodies) => {
      expect(await runIterations(true, bodies)).toBe(4);
      expect(await runIterations(false, bodies)).toBe(1);
    },
  );

  it('a call of a small batch after the eighth runs in an iteration of the event loop of its own', async () => {
    const batch = `[${Array.from({ length: 12 }, () => one).join(',')}]`;
    expect(await runIterations(false, [batch])).toBe(5);
  });
});
