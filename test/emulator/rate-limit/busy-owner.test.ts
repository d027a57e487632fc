// A busy owner, whose calls are counted in blocks, is counted exactly in the real gateway: in its headers, in
// auth.limits, and after the end of the process.
import { randomBytes } from 'node:crypto';
import { expect, inject, it } from 'vitest';
import { z } from 'zod';
import { authLimits } from '../../../shared/methods/auth.limits.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const LIMIT = 1_000_000;
const CALLS = 150;
/** What may wait to be given back, far below the 2 % that blocks may hold. */
const HELD_MAX = 1_000;

const project = `busy-${randomBytes(4).toString('hex')}`;

// A day, so that no window ends during the test.
const start = (): Promise<LocalGateway> =>
  startLocalGateway({
    env: {
      ...{ FIRESTORE_EMULATOR_HOST: inject('firestoreHost'), GOOGLE_CLOUD_PROJECT: project },
      ...{ METADATA_SERVER_DETECTION: 'none', GATEWAY_BUS: 'local' },
      ...{ GATEWAY_API_KEY: 'busy', GATEWAY_LIMITS: `${LIMIT}/day` },
    },
  });

async function call({ url }: LocalGateway, method: string, params: object = {}) {
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': 'busy' },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
  });
  return { remaining: Number(response.headers.get('x-ratelimit-remaining')), body: await response.json() };
}

/** What the document has left; the call costs nothing. */
async function storedRemaining(gateway: LocalGateway): Promise<number | undefined> {
  const { body } = await call(gateway, 'auth.limits');
  return z.object({ result: authLimits.result }).parse(body).result.windows[0]?.remaining;
}

describeWith('emulators', 'a busy owner', () => {
  it('a busy owner is counted exactly: in the headers, in auth.limits with its blocks, and after SIGTERM', async () => {
    const gateway = await start();
    try {
      for (let n = 1; n <= CALLS; n++) {
        const { remaining } = await call(gateway, 'conversation.status', { session_id: 'none' });
        expect(remaining, `after ${n} calls`).toBeLessThanOrEqual(LIMIT - n);
        expect(remaining, `after ${n} calls`).toBeGreaterThanOrEqual(LIMIT - n - HELD_MAX);
      }
      // The document counts blocks as used, those of this instance too.
      const remaining = await storedRemaining(gateway);
      expect(remaining).toBeLessThan(LIMIT - CALLS);
      expect(remaining).toBeGreaterThanOrEqual(LIMIT - CALLS - HELD_MAX);
    } finally {
      await gateway.stop();
    }
    const next = await start();
    try {
      expect(await storedRemaining(next)).toBe(LIMIT - CALLS);
    } finally {
      await next.stop();
    }
  }, 60_000);
});
