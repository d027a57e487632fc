// terraform/COST.md: its prices follow from its counts. The counts are compared where they are counted.
import { expect, it } from 'vitest';
import { readCostTable } from '../support/cost-table.ts';

const KIB_PER_GIB = 1 << 20;
/** Requests at a time in an instance of a function, turns at a time in a companion. */
const CONCURRENCY = 20;
/** Requests of functions for one call, where Pub/Sub makes another one. */
const REQUESTS = new Map([['`/webhook` with the `deployments` subscriber', 2]]);

it.each(readCostTable())('the price of a million calls follows from the counts: $call', (row) => {
  const { call, writes, reads, deletes, functionMs, companionMs, logKib, usdPerMillion } = row;
  const usd =
    0.4 * (REQUESTS.get(call) ?? 1) +
    (2.4 * (functionMs / 100)) / CONCURRENCY +
    (19 * (companionMs / 1_000)) / CONCURRENCY +
    0.9 * writes +
    0.3 * reads +
    0.1 * deletes +
    0.5 * ((logKib * 1e6) / KIB_PER_GIB);
  expect(usdPerMillion).toBeCloseTo(usd, 1);
});

it('the table of prices has its rows', () => {
  expect(readCostTable().length).toBeGreaterThanOrEqual(7);
});
