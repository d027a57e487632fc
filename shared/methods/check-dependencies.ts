// Checks every dependency of this instance at once, for `system.health` and `GET /health?verbose=1`.
import { bounded } from '../async.ts';
import type { PassedOver } from '../engines/models/model-health.ts';
import { PATHS } from '../protocol.ts';
import { sandboxUnavailable } from '../sandbox/commands.ts';
import type { Services } from '../services.ts';

export interface Check {
  readonly status: 'ok' | 'failed';
  readonly latency_ms: number;
}

export interface HealthReport {
  readonly status: 'healthy' | 'degraded';
  readonly checks: Readonly<Record<string, Check>>;
  /** Models that prompts with a fallback pass over on this instance; absent if there are none. */
  readonly models_passed_over?: PassedOver[];
}

type CheckedServices = Pick<Services, 'config' | 'store' | 'bus' | 'keys' | 'commands' | 'conversations'>;

/** Lower than 10 s, the timeout of most probes. */
const CHECK_TIMEOUT_MS = 5_000;
/** When a caller may check again after a failure. */
export const RECHECK_MS = 5_000;

/** Each check has its own deadline, so the report takes at most 5 s. Never rejects. */
export async function checkDependencies(services: CheckedServices): Promise<HealthReport> {
  const { config, store, bus, keys, commands, conversations } = services;
  const { url: companionUrl } = config.companion;
  const probes: Record<string, (signal: AbortSignal) => Promise<void>> = {
    store: (signal) => store.ping({ signal }),
    bus: (signal) => bus.ping({ signal }),
    keys: (signal) => keys.ping({ signal }),
    ...(companionUrl !== undefined && { companion: (signal) => probe(new URL(PATHS.health, companionUrl), signal) }),
    ...(config.sandbox !== undefined && {
      sandbox: async () => {
        const state = await commands.available();
        if (!state.ok) throw sandboxUnavailable(state);
      },
    }),
  };
  const results = await Promise.all(
    Object.entries(probes).map(async ([name, check]): Promise<[string, Check]> => {
      const startedMs = performance.now();
      const status = await bounded({ timeoutMs: CHECK_TIMEOUT_MS }, ({ signal }) => check(signal)).then(
        () => 'ok' as const,
        () => 'failed' as const,
      );
      return [name, { status, latency_ms: Math.round((performance.now() - startedMs) * 100) / 100 }];
    }),
  );
  const failed = results.some(([, { status }]) => status === 'failed');
  // A provider that fails is no fault of the instance, so it does not change the status.
  const passedOver = conversations.models.passedOver();
  return {
    status: failed ? 'degraded' : 'healthy',
    checks: Object.fromEntries(results),
    ...(passedOver.length > 0 && { models_passed_over: passedOver }),
  };
}

/** Rejects unless the URL answers with success. */
async function probe(url: URL, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { redirect: 'manual', signal });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`${url.href} answered ${response.status}`);
}
