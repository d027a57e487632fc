// Runs the handler of a request in the trace of the request, and in a new span if spans are sent to a collector.
import type { RequestListener } from 'node:http';
import { PATHS } from '../../shared/protocol.ts';
import { inTrace, readTrace } from '../../shared/telemetry/trace.ts';
import type { Tracer } from '../../shared/telemetry/tracer.ts';
import { pathOf } from './http.ts';

/** Any other path is left out of the name of a span: callers choose it, and collectors keep a list of names. */
const ROUTES: ReadonlySet<string> = new Set([...Object.values(PATHS), `${PATHS.webhook}/sweep`, '/deployments']);

export function traceRequests(listener: RequestListener, tracer: Tracer | undefined): RequestListener {
  if (tracer === undefined) return (req, res) => inTrace(readTrace(req.headers), () => listener(req, res));
  return (req, res) => {
    const { method = 'GET' } = req;
    const path = pathOf(req);
    const route = ROUTES.has(path) ? path : undefined;
    const span = tracer.start(route === undefined ? method : `${method} ${route}`, {
      kind: 'server',
      parent: readTrace(req.headers),
      attributes: { 'http.request.method': method, 'http.route': route },
    });
    res.once('close', () => {
      const status = res.statusCode;
      span.set({ 'http.response.status_code': status });
      span.end({ error: status >= 500 ? String(status) : undefined });
    });
    return inTrace(span.trace, () => listener(req, res));
  };
}
