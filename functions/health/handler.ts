// `GET /health`: reports that the process runs, without using a dependency; `?verbose=1` (authenticated) checks every
// dependency.
import type { OutgoingHttpHeaders } from 'node:http';
import type { Origins } from '../../shared/auth/origins.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { checkDependencies, RECHECK_MS } from '../../shared/methods/check-dependencies.ts';
import { HEADERS, PATHS } from '../../shared/protocol.ts';
import type { Services } from '../../shared/services.ts';
import { handleCors } from '../server/cors.ts';
import { type HttpHandler, pathOf, queryOf, rateHeaders, requestIdOf, sendError, sendJson } from '../server/http.ts';

/**
 * What the verbose check needs; created at the first verbose check, so that a plain probe needs no dependency.
 * Undefined if this deployable cannot read keys: it cannot authenticate callers, so it has no verbose check.
 */
export type HealthDeps = () => Promise<{ readonly services: Services; readonly gateway: Gateway } | undefined>;

/** Accepts its request at `/` and at `/health`. */
export function createHealthHandler(origins: Pick<Origins, 'has'>, parts: HealthDeps): HttpHandler {
  return async (req, res) => {
    if (handleCors(req, res, origins, 'GET')) return;
    const requestId = requestIdOf(req);
    const path = pathOf(req);
    let headers: OutgoingHttpHeaders = {};
    try {
      if (path !== '/' && path !== PATHS.health)
        throw new RpcError('not_found', { message: `Not found: this endpoint serves GET ${PATHS.health}` });
      if (req.method !== 'GET' && req.method !== 'HEAD') {
        throw new RpcError('method_not_allowed', { data: { allow: 'GET, HEAD, OPTIONS' } });
      }
      if (!isVerbose(queryOf(req))) {
        sendJson(res, 200, { status: 'healthy' });
        return;
      }
      const found = await parts();
      if (found === undefined)
        throw new RpcError('not_found', {
          message: 'Not found: the health function cannot check keys; call system.health',
        });
      const { services, gateway } = found;
      const caller = await gateway.authenticate(req.headers, { client: req });
      const { rate, refusal } = await gateway.admit(caller, { scope: null, mayDegrade: true });
      headers = rateHeaders(rate);
      // During an outage of the limiter's store the report is still sent, because it names the outage.
      if (refusal !== undefined && rate.outcome !== 'unavailable') throw refusal;
      const report = await checkDependencies(services);
      const isDegraded = report.status === 'degraded';
      const retry = isDegraded ? { [HEADERS.retryAfter]: RECHECK_MS / 1_000 } : {};
      sendJson(res, isDegraded ? 503 : 200, report, { ...headers, ...retry });
    } catch (thrown) {
      sendError(res, toRpcError(thrown), requestId, headers);
    }
  };
}

function isVerbose(query: URLSearchParams): boolean {
  const value = query.get('verbose');
  return value !== null && value !== '0' && value !== 'false';
}
