// Fuzz test: malformed and hostile requests to every method, through every transport, get the specified errors, and the
// gateway continues to serve. FUZZ_SEED and FUZZ_CASES vary the requests; a failure prints its seed and the smallest
// request that reproduces it.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as methods from '../../shared/methods/index.ts';
import { createVerifier, type Verifier } from '../support/fixtures/fuzz/check-response.ts';
import { createFuzzFixture, type FuzzFixture, MCP_NAMES } from '../support/fixtures/fuzz/gateway.ts';
import type { FuzzedMethod, Known } from '../support/fixtures/fuzz/params.ts';
import { requestAbout } from '../support/fixtures/fuzz/requests.ts';
import { memberOf, openHttp, openWebSocket, type Transport } from '../support/fixtures/fuzz/transports.ts';
import { describeWith } from '../support/requirements.ts';

const KEY = 'dev-key';
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_113);
/** Requests times transports. */
const CASES = Number(process.env.FUZZ_CASES ?? 4_000);
const TRANSPORTS = 3;
/** Also for finding the smallest request that fails. */
const TIMEOUT_MS = 120_000;
const registry: readonly FuzzedMethod[] = Object.values(methods);
const names = new Set(registry.map(({ name }) => name));
const RUNS = Math.ceil(CASES / TRANSPORTS / registry.length);
/** Until one of them reaches the method: by chance, all runs of a round may be refused before. */
const ROUNDS = 10;

let fixture: FuzzFixture;
let transports: readonly Transport[];

async function open(sandbox: boolean): Promise<void> {
  fixture = await createFuzzFixture({ sandbox });
  const { url } = fixture.gateway;
  transports = [openHttp(url, KEY, 'http'), openHttp(url, KEY, 'sse'), openWebSocket(url, KEY)];
}

async function close(): Promise<void> {
  for (const transport of transports) transport.close();
  await fixture.close();
}

/** A call that must work whatever came before; its result. */
async function plain(method: string, params: object): Promise<unknown> {
  const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params, id: 'plain' }));
  const received = await transports[0]?.send(body);
  const [answer] = received?.answers ?? [];
  expect(answer).toMatchObject({ id: 'plain', result: {} });
  return memberOf(answer, 'result');
}

async function attack(
  method: FuzzedMethod,
  known: Known,
  verifier: Verifier,
  numRuns: number,
  round = 0,
): Promise<void> {
  const property = fc.asyncProperty(requestAbout(method, known), async (request) => {
    const received = await Promise.all(transports.map((transport) => transport.send(request.body, request.headers)));
    for (const one of received) verifier.verify(request, one);
  });
  await fc.assert(property, {
    seed: SEED + registry.indexOf(method) + round * registry.length,
    numRuns,
    endOnFailure: process.env.CI === 'true',
  });
  await plain('conversation.status', { session_id: 'missing' });
}

function expectNoDefect(): void {
  const defects = fixture.gateway
    .logged()
    .split('\n')
    .filter((line) => /"severity":"(ERROR|CRITICAL)"/.test(line));
  expect(defects).toEqual([]);
}

describe(`${RUNS} fuzzed requests through each transport`, () => {
  let known: Known;
  beforeAll(async () => {
    await open(false);
    const prompt = (session_id: string): Promise<unknown> => plain('conversation.prompt', { prompt: 'hi', session_id });
    const turns = await Promise.all(['fuzz-1', 'fuzz-2'].map(prompt));
    const login = await plain('auth.login', { provider: 'anthropic', credentials: { token: 'token-of-the-test' } });
    await plain('mcp.connect', { server_config: { name: MCP_NAMES[0] } });
    known = {
      session_id: ['fuzz-1', 'fuzz-2', 'fuzz-3'],
      stream_id: ['fuzz-1'],
      turn_id: turns.map((turn) => String(memberOf(turn, 'turn_id'))),
      auth_session_id: [String(memberOf(login, 'session_id'))],
      'auth.logout.session_id': ['missing'],
      'mcp.call.name': [MCP_NAMES[0]],
      'mcp.call.session_id': [],
      'owner.erase.confirm': ['default'],
      'owner.erase.owner': ['default'],
    };
  });
  afterAll(close);

  it.each(registry.map((method) => [method.name, method] as const))(
    'fuzzed requests about %s are answered in order',
    async (_name, method) => {
      const verifier = createVerifier(names);
      const reached = (): boolean =>
        [...verifier.outcomes.keys()].some((reason) => !/^(parse_error|invalid_\w+|method_not_found)$/.test(reason));
      for (let round = 0; round < ROUNDS && !reached(); round++) await attack(method, known, verifier, RUNS, round);
      expect(reached(), 'some of them reach the method').toBe(true);
    },
    TIMEOUT_MS,
  );

  it('fuzzed requests leave no trace of a defect in the log', () => {
    expectNoDefect();
  });
});

describeWith('bubblewrap', 'with a sandbox', () => {
  const starting = registry.filter(({ name }) => /^(exec|apply|interactive\.)/.test(name));
  /** Batches start more at once than the sandbox admits, which it reports with a message of its own. */
  const isCrowded = (error: unknown): boolean => /^Too many|not read/.test(String(memberOf(error, 'message')));
  beforeAll(() => open(true));
  afterAll(close);

  it.each(starting.map((method) => [method.name, method] as const))(
    'fuzzed requests about %s are answered where there is a sandbox',
    async (_name, method) => {
      await plain('interactive.start', { session_id: 'tty' });
      const known = { session_id: ['tty'], cwd: ['/tmp'], repo_path: ['/tmp'], command: ['true'], shell: ['/bin/sh'] };
      await attack(method, known, createVerifier(names, isCrowded), Math.ceil(RUNS / 4));
      expectNoDefect();
    },
    TIMEOUT_MS,
  );
});
