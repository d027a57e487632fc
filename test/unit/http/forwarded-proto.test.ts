// The scheme by which a caller reached this server is found behind proxies that each append to X-Forwarded-Proto.
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { socketUrlOf } from '../../../functions/server/http.ts';

it.each([
  ['https', 'wss'],
  ['https, http', 'wss'],
  ['HTTPS,http', 'wss'],
  ['http, https', 'ws'],
  ['', 'ws'],
  [undefined, 'ws'],
])('X-Forwarded-Proto: %s makes %s:// of the attach URL: the first value is the caller’s', (value, scheme) => {
  const req = new IncomingMessage(new Socket());
  Object.assign(req.headers, { host: 'gateway.example', ...(value !== undefined && { 'x-forwarded-proto': value }) });
  expect(socketUrlOf(req)).toBe(`${scheme}://gateway.example/ws`);
});
