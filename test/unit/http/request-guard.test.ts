// The guard of a server refuses by address: on a loopback address other hosts and origins (connection.cases.ts shows it
// over HTTP); everywhere else CORS and keys decide.
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createRequestGuard } from '../../../functions/server/request-guard.ts';
import { createOrigins } from '../../../shared/auth/origins.ts';
import { createLogger } from '../../../shared/log.ts';

const LISTED = 'https://app.example';

function setUp(host: string | undefined) {
  const lines: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => lines.push(text) });
  const guard = createRequestGuard({ host, origins: createOrigins(new Set([LISTED]), log) });
  const check = (headers: { readonly host?: string; readonly origin?: string }): string => {
    const req = new IncomingMessage(new Socket());
    Object.assign(req, { headers, rawHeaders: Object.entries(headers).flat(), httpVersion: '1.1', url: '/' });
    try {
      guard.checkHost(req);
      guard.checkOrigin(req);
      return 'admitted';
    } catch (error) {
      return String((error as { readonly reason: string }).reason);
    }
  };
  const logged = (): Record<string, unknown>[] => {
    log.flush();
    return lines.flatMap((text) => text.trimEnd().split('\n')).map((line) => JSON.parse(line));
  };
  return { check, logged };
}

describe.each(['127.0.0.1', '::1', 'localhost', '127.0.0.2', '127.1.2.3'])('on the loopback host %s', (host) => {
  const own = host.includes(':') ? `[${host}]` : host;

  it.each(['localhost', '127.0.0.1', '[::1]', own])('a request for %s is admitted', (name) => {
    const { check } = setUp(host);
    expect([check({ host: name }), check({ host: `${name}:8080` })]).toEqual(['admitted', 'admitted']);
  });

  it.each(['rebind.example', '127.0.0.9', '0.0.0.0', '[::2]'])('a request for %s is refused', (name) => {
    expect(setUp(host).check({ host: name })).toBe('forbidden');
  });

  it('a page of another origin is refused, of a listed one not', () => {
    const { check } = setUp(host);
    expect(check({ host: 'localhost', origin: 'https://elsewhere.example' })).toBe('forbidden');
    expect(check({ host: 'localhost', origin: LISTED })).toBe('admitted');
  });
});

describe.each([undefined, '0.0.0.0', '::', '192.0.2.1', 'gateway.example'])('on the host %s', (host) => {
  it('requests for any name and pages of any origin reach the endpoint', () => {
    const { check } = setUp(host);
    for (const name of ['gateway.example', 'localhost', '203.0.113.9:443']) {
      expect(check({ host: name })).toBe('admitted');
      expect(check({ host: name, origin: 'https://elsewhere.example' })).toBe('admitted');
    }
  });
});

it.each(['127.0.0.1', '0.0.0.0'])('a refused origin is logged once, with the variable to set: %s', (host) => {
  const { check, logged } = setUp(host);
  for (const origin of ['https://one.example', 'https://two.example', 'https://one.example', LISTED]) {
    check({ host: 'localhost', origin });
  }
  expect(logged()).toMatchObject(
    ['https://one.example', 'https://two.example'].map((origin) => ({
      severity: 'WARNING',
      origin,
      hint: expect.stringContaining('ALLOWED_ORIGINS'),
    })),
  );
});
