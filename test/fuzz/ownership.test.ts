// The response for an id of another key equals that for a missing one. Another key, the attacker, calls every method
// that takes a handle with the real handles of an owner and with handles of nothing, in random order. Both are answered
// alike, and what the owner has stays as it was.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFuzzFixture, type FuzzFixture, MCP_NAMES } from '../support/fixtures/fuzz/gateway.ts';
import {
  type Handles,
  normalise,
  paramsWith,
  TAKING,
  type Taking,
  unknownHandles,
} from '../support/fixtures/fuzz/handles.ts';
import {
  memberOf,
  openHttp,
  openWebSocket,
  type Received,
  type Transport,
} from '../support/fixtures/fuzz/transports.ts';
import { describeWith } from '../support/requirements.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_261_113);
const TIMEOUT_MS = 120_000;
const KEYS = JSON.stringify({ keys: ['owner', 'attacker'].map((id) => ({ id, key: id })) });
const SECRET = 'the-secret-of-the-owner';

interface Step {
  readonly method: Taking;
  readonly pick: number;
  readonly transport: number;
  readonly isRealFirst: boolean;
}

let fixture: FuzzFixture;
let owner: Transport;
let attackers: readonly Transport[];
let count = 0;

async function open(sandbox: boolean): Promise<void> {
  fixture = await createFuzzFixture({ sandbox, env: { GATEWAY_KEYS: KEYS } });
  const { url } = fixture.gateway;
  owner = openWebSocket(url, 'owner');
  attackers = [openHttp(url, 'attacker', 'http'), openHttp(url, 'attacker', 'sse'), openWebSocket(url, 'attacker')];
}

async function close(): Promise<void> {
  for (const transport of [owner, ...attackers]) transport.close();
  await fixture.close();
}

function send(transport: Transport, method: string, params: object): Promise<Received> {
  return transport.send(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 })));
}

async function own(method: string, params: object): Promise<unknown> {
  const { answers } = await send(owner, method, params);
  expect(answers, method).toMatchObject([{ result: {} }]);
  return memberOf(answers[0], 'result');
}

/** What takes long to make is made only where it is tried. */
interface Uses {
  readonly hasTerminal: boolean;
  readonly hasMcp: boolean;
}

/** Everything the owner has, made anew, and handles of the same form that name nothing. */
async function makeHandles({ hasTerminal, hasMcp }: Uses): Promise<{ readonly real: Handles; readonly none: Handles }> {
  const n = ++count;
  const [session, terminal] = [`real-session-${n}`, `real-terminal-${n}`];
  const turn = await own('conversation.prompt', { prompt: SECRET, session_id: session });
  const login = await own('auth.login', { provider: 'anthropic', credentials: { token: 'token-of-the-owner' } });
  const subscription = await own('events.subscribe', {});
  for (const session_id of hasMcp ? [undefined, session] : []) {
    await own('mcp.connect', { server_config: { name: MCP_NAMES[0] }, session_id });
  }
  if (hasTerminal) await own('interactive.start', { session_id: terminal });
  const { ids } = fixture.gateway.services;
  return {
    real: {
      session,
      terminal,
      turn: String(memberOf(turn, 'turn_id')),
      login: String(memberOf(login, 'session_id')),
      subscription: String(memberOf(subscription, 'subscription_id')),
      mcp: MCP_NAMES[0],
    },
    none: {
      session: `none-session-${n}`,
      terminal: `none-terminal-${n}`,
      turn: ids.next('turn'),
      login: ids.next('auth'),
      subscription: ids.next('sub'),
      mcp: MCP_NAMES[1],
    },
  };
}

/** Gives up whatever the attacker has come to own meanwhile. */
async function leave(handles: readonly Handles[], { hasTerminal, hasMcp }: Uses): Promise<void> {
  const [http] = attackers;
  if (http === undefined) return;
  for (const { session, login, mcp, terminal } of handles) {
    for (const session_id of [undefined, session, login, terminal]) {
      if (hasMcp) await send(http, 'mcp.disconnect', { name: mcp, session_id });
      if (hasTerminal && session_id !== undefined) await send(http, 'interactive.close', { session_id });
    }
  }
}

/** The owner finds everything as it was, and gives it up. */
async function expectUntouched(
  { session, turn, subscription, mcp, login, terminal }: Handles,
  { hasTerminal, hasMcp }: Uses,
): Promise<void> {
  const { messages } = Object(await own('conversation.history', { session_id: session }));
  expect(messages).toMatchObject([{ content: SECRET, turn_id: turn }, { turn_id: turn }]);
  expect(await own('conversation.status', { session_id: session })).toMatchObject({
    status: 'idle',
    turn: { turn_id: turn },
  });
  expect(await own('events.unsubscribe', { subscription_id: subscription })).toMatchObject({ unsubscribed: true });
  if (hasMcp) {
    expect(await own('mcp.disconnect', { name: mcp, session_id: session })).toMatchObject({ disconnected: true });
    const sum = await own('mcp.call', { name: mcp, tool: 'add', arguments: { a: 1, b: 2 } });
    expect(sum).toMatchObject({ content: [{ text: '3' }], is_error: false });
  }
  if (hasTerminal) expect(await own('interactive.close', { session_id: terminal })).toMatchObject({ closed: true });
  expect(await own('auth.logout', { session_id: login })).toMatchObject({ logged_out: true });
}

async function attack(among: readonly Taking[], numRuns: number, hasTerminal: boolean): Promise<number> {
  let compared = 0;
  const step: fc.Arbitrary<Step> = fc.record({
    method: fc.constantFrom(...among),
    pick: fc.nat(511),
    transport: fc.nat(2),
    isRealFirst: fc.boolean(),
  });
  const property = fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 12, size: 'max' }), async (steps) => {
    const uses = { hasTerminal, hasMcp: steps.some(({ method }) => method.name.startsWith('mcp.')) };
    const { real, none } = await makeHandles(uses);
    for (const { method, pick, transport, isRealFirst } of steps) {
      const attacker = attackers[transport];
      if (attacker === undefined) continue;
      const responses = new Map<Handles, string>();
      for (const handles of isRealFirst ? [real, none] : [none, real]) {
        const received = await send(attacker, method.name, paramsWith(method, handles, pick));
        expect(JSON.stringify(received)).not.toContain(SECRET);
        responses.set(handles, normalise(received, handles));
      }
      expect(responses.get(real), method.name).toBe(responses.get(none));
      compared++;
    }
    await leave([real, none], uses);
    await expectUntouched(real, uses);
  });
  await fc.assert(property, { seed: SEED, numRuns, endOnFailure: process.env.CI === 'true' });
  return compared;
}

describe('handles', () => {
  it('every handle of a resource is in this suite: a new one must be added here', () => {
    expect(unknownHandles()).toEqual([]);
  });
});

describe('an attacker with the handles of another key', () => {
  beforeAll(() => open(false));
  afterAll(close);

  it.each(TAKING.map((method) => [method.name, method] as const))(
    'an attacker with the handles of another key learns and changes nothing by %s',
    async (_name, method) => {
      await attack([method], 1, false);
    },
    TIMEOUT_MS,
  );

  it(
    'an attacker with the handles of another key learns and changes nothing by any methods in any order',
    async () => {
      expect(await attack(TAKING, 25, false)).toBeGreaterThan(100);
    },
    TIMEOUT_MS,
  );
});

describeWith('bubblewrap', 'an attacker with the terminals of another key', () => {
  beforeAll(() => open(true));
  afterAll(close);

  it(
    'an attacker with the terminals of another key learns and changes nothing',
    async () => {
      const among = TAKING.filter(({ name }) => /^(interactive\.|exec$|conversation\.status$)/.test(name));
      await attack(among, 8, true);
    },
    TIMEOUT_MS,
  );
});
