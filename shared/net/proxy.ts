// A client for calls through the operator's proxy (config/values/proxy.ts defines which calls use it).
import type { ProxyEnv } from 'node:http';

/** `fetch` through the proxy; the client is loaded only when a proxy is configured. */
export function createProxiedFetch({ HTTP_PROXY, HTTPS_PROXY, NO_PROXY }: ProxyEnv) {
  const loading = import('undici').then(({ EnvHttpProxyAgent, fetch }) => {
    const dispatcher = new EnvHttpProxyAgent({
      ...(HTTP_PROXY !== undefined && { httpProxy: HTTP_PROXY }),
      ...(HTTPS_PROXY !== undefined && { httpsProxy: HTTPS_PROXY }),
      ...(NO_PROXY !== undefined && { noProxy: NO_PROXY }),
    });
    return { dispatcher, fetch };
  });
  return async (url: string, init: { headers: Record<string, string>; redirect: 'manual'; signal: AbortSignal }) => {
    const { dispatcher, fetch } = await loading;
    return fetch(url, { ...init, dispatcher });
  };
}
