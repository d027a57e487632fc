// Where the operator's machine reaches the internet through a proxy only: the calls to places that the operator or this
// project names (providers of models, checks of logins) go through it. Calls to places that callers name do not: the
// proxy would look the name up, and could reach addresses that callers may not.
import type { ProxyEnv } from 'node:http';

/** Never through a proxy: models and backends on this machine. */
const ON_THIS_MACHINE = ['localhost', '127.0.0.1', '[::1]', '::1'];

/** As agents of node:http take it; undefined without a proxy. */
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
