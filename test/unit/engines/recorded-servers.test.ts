// The gateway sends the recorded requests of turns with real servers of MODEL_PROVIDERS, and reads their answers, byte
// for byte, to the same results. test/support/record-server.ts records them.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createEngines } from '../../../shared/engines/engines.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { type Recorded, Recording, resultOf, TURNS } from '../../support/fixtures/turns/recorded-turns.ts';

const DIRECTORY = join(import.meta.dirname, '../../support/fakes/servers');
const RECORDINGS = readdirSync(DIRECTORY)
  .sort()
  .map((name) => Recording.parse(JSON.parse(readFileSync(join(DIRECTORY, name), 'utf8'))));

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterAll(() => provider.close());

/** Answers each request of the turn as the server did, and returns those that the server did not receive. */
function replay({ exchanges }: Recorded, pieceBytes: number): unknown[] {
  const left = [...exchanges];
  const others: unknown[] = [];
  provider.behave(({ body }) => {
    const exchange = left.shift();
    if (isDeepStrictEqual(exchange?.request, body)) return { ...exchange, pieceBytes };
    others.push({ sent: body, recorded: exchange?.request });
    return { status: 400, message: 'not the recorded request' };
  });
  return others;
}

describe.each(RECORDINGS)('$server with $model by $wire', ({ server, model, wire, turns }) => {
  const toEngine = () => {
    const MODEL_PROVIDERS = JSON.stringify({ [server]: { base_url: `${provider.url}/v1`, wire, api_key: 'none' } });
    return createEngines(loadConfig({ MODEL_PROVIDERS }), { direct: { retryMs: 1 } }).resolve(`${server}/x`).engine;
  };

  it.each(turns)('a recorded turn is replayed with the same requests and results: $turn', async (recorded) => {
    const others = replay(recorded, 97);
    const result = await resultOf(toEngine(), server, model, TURNS[recorded.turn] ?? {});
    expect(others).toEqual([]);
    expect(JSON.parse(JSON.stringify(result))).toEqual(recorded.result);
  });
});
