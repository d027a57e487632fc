// A URL of a caller reaches only globally routable addresses, in every notation and over redirects, except for the
// internal origins that the operator named.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isGloballyRoutable } from '../../../shared/net/address.ts';
import { createSafeFetch, readLimited, type SafeFetch, type SafeFetchPolicy } from '../../../shared/net/safe-fetch.ts';
import { SSRF_NAMES, SSRF_URLS } from '../../support/fixtures/network/ssrf-spellings.ts';

let server: Server;
let origin: string;
let connections = 0;
let handler: (req: IncomingMessage, res: ServerResponse) => void;
const fetches: SafeFetch[] = [];

beforeEach(async () => {
  connections = 0;
  handler = (_req, res) => res.end('reached');
  server = createServer((req, res) => handler(req, res));
  server.on('connection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  await Promise.all(fetches.splice(0).map((safeFetch) => safeFetch.close()));
  server.closeAllConnections();
  server.close();
});

function make(policy: SafeFetchPolicy = {}): SafeFetch {
  const safeFetch = createSafeFetch(policy);
  fetches.push(safeFetch);
  return safeFetch;
}

/** A resolver that always returns these addresses, as a rebinding name server would. */
function answering(...addresses: string[]): NonNullable<SafeFetchPolicy['lookup']> & { count: () => number } {
  let calls = 0;
  const lookup = (_name: string, _options: unknown, callback: unknown) => {
    calls++;
    const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    if (typeof callback === 'function') callback(null, found);
  };
  return Object.assign(lookup, { count: () => calls }) as never;
}

describe('an address that is not globally routable', () => {
  it.each(SSRF_URLS)('an address that is not globally routable is never dialled: %s', async (template) => {
    const port = new URL(origin).port;
    await expect(make()(template.replace('{port}', port))).rejects.toMatchObject({ reason: 'forbidden' });
    expect(connections).toBe(0);
  });

  it.each(SSRF_NAMES)(
    'an address that is not globally routable is never dialled through a name: %s',
    async (address) => {
      const lookup = answering(address);
      await expect(make({ lookup })('http://rebind.example.com/')).rejects.toMatchObject({ reason: 'forbidden' });
      expect(connections).toBe(0);
      expect(lookup.count()).toBe(1);
    },
  );

  it('an address that is not globally routable is refused when it is only one of several addresses of a name', async () => {
    const lookup = answering('8.8.8.8', '127.0.0.1');
    await expect(make({ lookup })('http://mixed.example.com/')).rejects.toMatchObject({ reason: 'forbidden' });
  });

  it('an address that is not globally routable is counted in more than 120 spellings here', () => {
    expect(SSRF_URLS.length + SSRF_NAMES.length).toBeGreaterThanOrEqual(120);
    expect(new Set([...SSRF_URLS, ...SSRF_NAMES]).size).toBe(SSRF_URLS.length + SSRF_NAMES.length);
  });
});

it.each(['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111', '::ffff:8.8.8.8'])(
  'the address %s is globally routable',
  (address) => {
    expect(isGloballyRoutable(address)).toBe(true);
  },
);

describe('a request to an internal origin the operator named', () => {
  it('a request to an internal origin the operator named is sent without headers that describe the gateway or the connection', async () => {
    let seen: IncomingMessage['headers'] = {};
    handler = (req, res) => {
      seen = req.headers;
      res.end();
    };
    await make({ internalOrigins: new Set([origin]) })(`${origin}/x`, {
      headers: {
        'X-API-Key': 'k',
        Cookie: 'c',
        'Metadata-Flavor': 'Google',
        Authorization: 'Bearer t',
        'X-Forwarded-For': '1',
      },
    });
    expect(seen).toMatchObject({ authorization: 'Bearer t' });
    for (const name of ['x-api-key', 'cookie', 'metadata-flavor', 'x-forwarded-for'])
      expect(seen).not.toHaveProperty([name]);
  });

  it('a request to an internal origin the operator named does not follow a redirect to another internal origin', async () => {
    handler = (_req, res) => res.writeHead(302, { location: 'http://169.254.169.254/computeMetadata/v1/' }).end();
    await expect(make({ internalOrigins: new Set([origin]) })(origin)).rejects.toMatchObject({ reason: 'forbidden' });
  });

  it('at most three redirects are followed', async () => {
    let hops = 0;
    handler = (_req, res) => res.writeHead(302, { location: `/${++hops}` }).end();
    await expect(make({ internalOrigins: new Set([origin]) })(origin)).rejects.toMatchObject({
      reason: 'upstream_error',
    });
    expect(hops).toBe(4);
  });

  it('a request to an internal origin the operator named keeps the method and body over 307 and turns a POST into a GET over 303', async () => {
    const seen: string[] = [];
    handler = async (req, res) => {
      const body: string[] = [];
      for await (const chunk of req) body.push(String(chunk));
      seen.push(`${req.method} ${req.url} ${body.join('')}`);
      if (req.url === '/307') res.writeHead(307, { location: '/303' }).end();
      else if (req.url === '/303') res.writeHead(303, { location: '/end' }).end();
      else res.end();
    };
    await make({ internalOrigins: new Set([origin]) })(`${origin}/307`, { method: 'POST', body: 'b' });
    expect(seen).toEqual(['POST /307 b', 'POST /303 b', 'GET /end ']);
  });

  it.each([301, 302, 303, 307, 308])(
    'every header of the caller is dropped when a %i leaves the origin',
    async (status) => {
      const seen: IncomingMessage['headers'][] = [];
      const other = createServer((req, res) => {
        seen.push(req.headers);
        res.end();
      }).listen(0, '127.0.0.1');
      await once(other, 'listening');
      const otherOrigin = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
      handler = (req, res) => {
        const location = req.url === '/' ? '/again' : otherOrigin;
        res.writeHead(status, { location }).end();
        if (req.url === '/again') seen.push(req.headers);
      };
      await make({ internalOrigins: new Set([origin, otherOrigin]) })(origin, {
        method: 'POST',
        body: '{}',
        headers: {
          Accept: 'application/json',
          Authorization: 'Bearer t',
          'X-Custom-Token': 'canary',
          'MCP-Session-Id': 'canary',
          'Private-Token': 'canary',
          Cookie: 'canary',
        },
      });
      // Within the origin they are kept.
      expect(seen[0]).toMatchObject({ authorization: 'Bearer t', 'x-custom-token': 'canary' });
      expect(seen[1]).toMatchObject({ accept: 'application/json' });
      expect(JSON.stringify(seen[1])).not.toMatch(/canary|Bearer/);
      other.closeAllConnections();
      other.close();
    },
  );

  it('no redirect that leaves the base URL is followed, at any hop', async () => {
    const seen: (string | undefined)[] = [];
    const locations: Record<string, string> = {
      '/base/a': '/base/b',
      '/base/b': '/secret',
      '/base/c': '/base/%252e%252e/secret',
      '/base/d': '/base/../secret',
      '/base/e': '/base/f',
    };
    handler = (req, res) => {
      seen.push(req.url);
      const location = locations[req.url ?? ''];
      if (location === undefined) res.end('reached');
      else res.writeHead(302, { location }).end();
    };
    const redirectsWithin = new URL(`${origin}/base/`);
    const safeFetch = make({ internalOrigins: new Set([origin]), redirectsWithin });
    for (const path of ['a', 'c', 'd']) {
      await expect(safeFetch(`${origin}/base/${path}`)).rejects.toMatchObject({
        reason: 'forbidden',
        data: { detail: 'redirect' },
      });
    }
    expect(seen).toEqual(['/base/a', '/base/b', '/base/c', '/base/d']);
    expect(await (await safeFetch(`${origin}/base/e`)).text()).toBe('reached');
  });

  it.each([
    ['refuses the connection', 'upstream_error', /refused the connection/, true],
    ['cuts its answer', 'upstream_error', /ended before its answer was complete/, true],
  ])('a request to a server that %s fails with a message', async (what, reason, message, retryable) => {
    handler = (_req, res) => res.socket?.resetAndDestroy();
    const safeFetch = make({ internalOrigins: new Set([origin]) });
    if (what.startsWith('refuses')) {
      server.close();
      await once(server, 'close');
    }
    await expect(safeFetch(origin)).rejects.toMatchObject({
      reason,
      message: expect.stringMatching(message),
      retryable,
    });
  });

  it('a request ends with upstream_timeout when the headers do not arrive', async () => {
    handler = () => {};
    const safeFetch = make({ internalOrigins: new Set([origin]), totalTimeoutMs: 200 });
    await expect(safeFetch(origin)).rejects.toMatchObject({ reason: 'upstream_timeout' });
  });

  it('a request ends with the signal’s reason when its caller aborts', async () => {
    handler = () => {};
    const controller = new AbortController();
    const pending = make({ internalOrigins: new Set([origin]) })(origin, { signal: controller.signal });
    const reason = new Error('left');
    controller.abort(reason);
    await expect(pending).rejects.toBe(reason);
  });

  it('a response of an internal origin is read up to a bound', async () => {
    handler = (_req, res) => res.end('x'.repeat(2_000));
    const response = await make({ internalOrigins: new Set([origin]) })(origin);
    await expect(readLimited(response, 1_000)).rejects.toMatchObject({ reason: 'upstream_error' });
  });
});

it.each([
  'ftp://example.com/',
  'file:///etc/passwd',
  'gopher://example.com/',
  'http://user:pass@example.com/',
  'nonsense',
])('a fetch refuses the URL %s', async (url) => {
  await expect(make()(url)).rejects.toMatchObject({ reason: 'forbidden' });
});
