// Security checks that every method must pass, run over the registry, so that a new method is tested without further
// code.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SCOPES } from '../../shared/config/values/key-document.ts';
import * as methods from '../../shared/methods/index.ts';
import { createFuzzFixture, type FuzzFixture } from '../support/fixtures/fuzz/gateway.ts';
import {
  memberOf,
  openHttp,
  openWebSocket,
  type Received,
  type Transport,
} from '../support/fixtures/fuzz/transports.ts';

const ALL = 'all-scopes';
/** A key per scope, which has every other one; and one that has none. */
const KEYS = [
  { id: ALL, key: ALL },
  { id: 'no-scope', key: 'no-scope', scopes: [] },
  ...SCOPES.map((scope) => ({
    id: `not-${scope}`,
    key: `not-${scope}`,
    scopes: SCOPES.filter((one) => one !== scope),
  })),
];

let fixture: FuzzFixture;
/** By transport and key. */
const opened = new Map<string, Transport>();
beforeAll(async () => {
  fixture = await createFuzzFixture({ env: { GATEWAY_KEYS: JSON.stringify({ keys: KEYS }) } });
});
afterAll(async () => {
  for (const transport of opened.values()) transport.close();
  await fixture.close();
});

function over(transport: 'http' | 'sse' | 'ws', key: string, request: object): Promise<Received> {
  const { url } = fixture.gateway;
  const name = `${transport} ${key}`;
  const way = opened.get(name) ?? (transport === 'ws' ? openWebSocket(url, key) : openHttp(url, key, transport));
  opened.set(name, way);
  return way.send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...request })));
}

/** How many calls of the method are in the log, by their outcome. */
function audited(method: string, outcome: string): number {
  const lines = fixture.gateway.logged().split('\n');
  return lines.filter((line) => line.includes(`"method":"${method}"`) && line.includes(`"outcome":"${outcome}"`))
    .length;
}

const CASES = Object.values(methods).map((method) => [method.name, method] as const);

describe.each(CASES)('%s', (name, method) => {
  it.each(['http', 'sse'] as const)('a call without a valid key is 401 (%s)', async (transport) => {
    // An address may send 40 wrong keys at once; so many methods there are, but not twice.
    for (const key of transport === 'http' ? ['', 'wrong'] : ['']) {
      const { status, answers } = await over(transport, key, { method: name, params: method.example.params, id: 1 });
      expect(status).toBe(401);
      expect(answers).toMatchObject([{ id: null, error: { code: 401, data: { reason: 'unauthorized' } } }]);
    }
  });

  it.each(['http', 'sse', 'ws'] as const)(
    'a call by a key without its scope is 403, whatever the params (%s)',
    async (transport) => {
      const { scope } = method;
      for (const params of [method.example.params, { undeclared: true }, []]) {
        const request = { method: name, params, id: 1 };
        if (scope === null) {
          const { answers } = await over(transport, 'no-scope', request);
          expect(answers).not.toMatchObject([{ error: { code: 403 } }]);
          continue;
        }
        for (const key of [`not-${scope}`, 'no-scope']) {
          const { answers } = await over(transport, key, request);
          const data = { reason: 'forbidden', missing_scope: scope };
          expect(answers).toMatchObject([{ id: 1, error: { code: 403, data } }]);
        }
      }
    },
  );

  it.each(['http', 'sse', 'ws'] as const)(
    'a method accepts params by name, and none that it does not declare (%s)',
    async (transport) => {
      const byPosition = await over(transport, ALL, {
        method: name,
        // An empty list equals no params.
        params: [...Object.values(method.example.params), 'more'],
        id: 1,
      });
      expect(byPosition.answers).toMatchObject([
        { id: 1, error: { code: -32602, data: { reason: 'invalid_params' } } },
      ]);
      const params = { ...method.example.params, is_admin: true };
      const undeclared = await over(transport, ALL, { method: name, params, id: 1 });
      expect(undeclared.answers).toMatchObject([{ id: 1, error: { code: -32602 } }]);
      expect(JSON.stringify(memberOf(undeclared.answers[0], 'error'))).toContain('is_admin');
    },
  );

  it.each(['http', 'sse', 'ws'] as const)('a notification is received and not answered (%s)', async (transport) => {
    const before = audited(name, 'invalid_params');
    const received = await over(transport, ALL, { method: name, params: { is_admin: true } });
    expect(received.answers).toEqual([]);
    if (transport !== 'ws') expect([received.status, received.type]).toEqual([204, undefined]);
    expect(audited(name, 'invalid_params')).toBe(before + 1);
  });
});
