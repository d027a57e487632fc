// Starts one gateway process of the soak, as a supervisor does, and probes whether it responds.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

/** As in a small container: garbage that is not collected yet counts as resident memory. */
const HEAP_MB = 256;
const SHIM = join(import.meta.dirname, '../../support/fixtures/process/clock-shim.ts');
/** A process ends with an error if it cannot reach what it depends on, and is started again. */
const STARTS_MAX = 4;
const START_AGAIN_MS = 1_000;
const PROBE_EVERY_MS = 500;
const PROBE_MS_MAX = 40_000;

/** `skewMs`: how far its clock is ahead. */
export async function startGateway(env: Readonly<Record<string, string>>, skewMs: number): Promise<LocalGateway> {
  const nodeArgs = [`--max-old-space-size=${HEAP_MB}`, ...(skewMs === 0 ? [] : ['--import', SHIM])];
  for (let starts = 1; ; starts++) {
    try {
      return await startLocalGateway({ nodeArgs, env: { ...env, SOAK_CLOCK_SKEW_MS: String(skewMs) } });
    } catch (error) {
      if (starts === STARTS_MAX) throw error;
      await sleep(START_AGAIN_MS);
    }
  }
}

/** Whether a process finds all that it depends on well within `ms`; `answer` is its last one. */
export async function untilHealthy(
  url: string,
  key: string,
  ms: number,
): Promise<{ readonly isHealthy: boolean; readonly answer: string }> {
  const startMs = performance.now();
  for (;;) {
    const request = { headers: { 'X-API-Key': key }, signal: AbortSignal.timeout(PROBE_MS_MAX) };
    const answer = await fetch(`${url}/health?verbose=1`, request)
      .then((response) => response.text())
      .catch(String);
    const isHealthy = answer.includes('"status":"healthy"');
    if (isHealthy || performance.now() - startMs >= ms) return { isHealthy, answer };
    await sleep(PROBE_EVERY_MS);
  }
}
