// The exit code of an outcome (arguments.ts documents the numbers).
import type { ErrorReason } from '../../shared/client/gateway-error.ts';
import { GatewayError } from '../../shared/client/gateway-error.ts';
import { UsageError } from './usage-error.ts';

export const EXIT = {
  ok: 0,
  other: 1,
  usage: 2,
  auth: 3,
  rateLimited: 4,
  refused: 5,
  upstream: 6,
  unavailable: 7,
  interrupted: 130,
} as const;

const BY_REASON: Readonly<Record<ErrorReason, number>> = {
  unauthorized: EXIT.auth,
  forbidden: EXIT.auth,
  rate_limited: EXIT.rateLimited,
  parse_error: EXIT.refused,
  invalid_request: EXIT.refused,
  method_not_found: EXIT.refused,
  invalid_params: EXIT.refused,
  payload_too_large: EXIT.refused,
  unsupported_media_type: EXIT.refused,
  method_not_allowed: EXIT.refused,
  not_found: EXIT.refused,
  session_busy: EXIT.refused,
  queue_full: EXIT.refused,
  idempotency_in_flight: EXIT.refused,
  storage_full: EXIT.refused,
  patch_failed: EXIT.refused,
  conflict: EXIT.refused,
  upstream_error: EXIT.upstream,
  upstream_timeout: EXIT.upstream,
  unavailable: EXIT.unavailable,
  sandbox_unavailable: EXIT.unavailable,
  network: EXIT.unavailable,
  timeout: EXIT.unavailable,
  bad_response: EXIT.unavailable,
  internal: EXIT.other,
  cancelled: EXIT.other,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  if (!(error instanceof GatewayError)) return EXIT.other;
  return new Map<string, number>(Object.entries(BY_REASON)).get(error.reason) ?? EXIT.other;
}
