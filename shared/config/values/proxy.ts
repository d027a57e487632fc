// The proxy for calls to addresses that the operator or this project chooses (providers, checks of logins). Calls to
// addresses that callers choose do not use it: the proxy would resolve the name, and could reach internal addresses
// that the gateway's own check forbids.
import type { ProxyEnv } from 'node:http';

/** Hosts that are called without a proxy: models and backends on this machine. */
const ON_THIS_MACHINE = ['localhost', '127.0.0.1', '[::1]', '::1'];

/** The `proxyEnv` option of the agents of node:http; undefined without a proxy. */
export function toProxy(
  http: string | undefined,
  https: string | undefined,
  none: string | undefined,
): ProxyEnv | undefined {
  if (http === undefined && https === undefined) return undefined;
  const NO_PROXY = [...(none === undefined ? [] : [none]), ...ON_THIS_MACHINE].join(',');
  return {
    NO_PROXY,
    ...(http !== undefined && { HTTP_PROXY: http }),
    ...(https !== undefined && { HTTPS_PROXY: https }),
  };
}
