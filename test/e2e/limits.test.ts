// The blocks of a busy owner in the real gateway: what its headers and auth.limits report, and the end of the process.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { systemClock } from '../../shared/clock.ts';
import { authLimits } from '../../shared/methods/auth.limits.ts';
import { heldCalls } from '../../shared/rate-limit/blocks.ts';
import { toLimitRef, toLimitState } from '../../shared/rate-limit/limit-document.ts';
import { createEmbeddedStore } from '../../shared/store/embedded/embedded.ts';
import { startLocalGateway } from '../support/fixtures/local-gateway.ts';

const LIMIT = 1_000_000;
const CALLS = 150;
/** What may wait to be given back, far below the 2 % that blocks may hold. */
const HELD_MAX = 1_000;

it('a busy owner is counted exactly: in the headers, in auth.limits with its blocks, and after SIGTERM', async () => {
  const data = mkdtempSync(join(tmpdir(), 'limits-'));
  // A day, so that no window ends during the test.
  const gateway = await startLocalGateway({
    env: { GATEWAY_DATA_DIR: data, GATEWAY_API_KEY: 'busy', GATEWAY_LIMITS: `${LIMIT}/day` },
  });
  const call = async (method: string, params: object = {}) => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': 'busy' },
      body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
    });
    return { remaining: Number(response.headers.get('x-ratelimit-remaining')), body: await response.json() };
  };
  try {
    for (let n = 1; n <= CALLS; n++) {
      const { remaining } = await call('conversation.status', { session_id: 'none' });
      expect(remaining, `after ${n} calls`).toBeLessThanOrEqual(LIMIT - n);
      expect(remaining, `after ${n} calls`).toBeGreaterThanOrEqual(LIMIT - n - HELD_MAX);
    }
    const { body } = await call('auth.limits');
    const [window] = z.object({ result: authLimits.result }).parse(body).result.windows;
    // The document counts blocks as used, those of this instance too.
    expect(window?.remaining).toBeLessThan(LIMIT - CALLS);
    expect(window?.remaining).toBeGreaterThanOrEqual(LIMIT - CALLS - HELD_MAX);
  } finally {
    await gateway.stop();
  }
  const store = createEmbeddedStore({ path: join(data, 'gateway.sqlite'), clock: systemClock });
  const [snapshot] = await store.get([toLimitRef('default')]);
  const state = toLimitState(snapshot);
  expect(state.windows.map(({ count }) => count)).toEqual([CALLS]);
  expect(heldCalls(state, Date.now())).toBe(0);
  await store.close();
  rmSync(data, { recursive: true, force: true });
});
