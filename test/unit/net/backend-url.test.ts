// A path of a caller cannot lead out of the base URL of a backend.
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { isBelow, toBackendUrl } from '../../../shared/net/backend-url.ts';

const BASE = 'https://api.example.com/base/';

it.each([
  ['/users', 'https://api.example.com/base/users'],
  ['/users?page=1#x', 'https://api.example.com/base/users?page=1'],
  ['/a%20b/ü', 'https://api.example.com/base/a%20b/%C3%BC'],
  ['/', 'https://api.example.com/base/'],
  ['/a:b@c', 'https://api.example.com/base/a:b@c'],
  ['/..a/b..', 'https://api.example.com/base/..a/b..'],
  ['/a;v=1/100%2525', 'https://api.example.com/base/a;v=1/100%2525'],
  ['/caf%C3%A9/caf%E9', 'https://api.example.com/base/caf%C3%A9/caf%E9'],
])('a path is joined to the base URL: %s', (endpoint, expected) => {
  expect(toBackendUrl(BASE, endpoint).href).toBe(expected);
});

it.each([
  'users',
  '',
  '//evil.example/',
  '/\\evil.example',
  'https://evil.example/',
  '/../admin',
  '/a/../../admin',
  '/%2e%2e/admin',
  '/.%2e/admin',
  '/%2E./admin',
  '/..;x=1/admin',
  '/a/./b',
  '/a%2f..%2fadmin',
  '/a%5c..%5cadmin',
  '/a%00b',
  '/a\nb',
  '/a\tb',
  '/a\r\nHost: evil',
  '?x',
  '#x',
  '@evil.example/',
  ':80/',
  '/..',
  '/%252e%252e/admin',
  '%252e%252e/secret',
  '/%25252e%25252e/admin',
  '/%25%32%65%25%32%65/admin',
  '/%2%35%32e./admin',
  '/a/%252e%252e%252fadmin',
  '/..%252fadmin',
  '/..%255cadmin',
  '/a%252fb',
  '/..%3b/admin',
  '/..%253bx/admin',
  '/.;/admin',
  '/%c0%ae%c0%ae/admin',
  '/%25c0%25ae/admin',
  '/%u002e%u002e/admin',
  '/a%250d%250aX',
  '/．．/admin',
  '/‥/admin',
  '/%ef%bc%8e%ef%bc%8e/admin',
  '/..%ef%bc%8fadmin',
  '/..%25ef%25bc%258fadmin',
  '/..%e2%81%84admin',
  '/..%c2%a5admin',
  '/..%20/admin',
  `/%${'25'.repeat(20)}2e`,
])('the path %j is refused', (endpoint) => {
  expect(() => toBackendUrl(BASE, endpoint)).toThrow(RpcError);
});

it.each([
  ['https://api.example.com/base', true],
  ['https://api.example.com/base/a/b?c', true],
  ['https://api.example.com/base/../secret', false],
  ['https://api.example.com/basement', false],
  ['https://api.example.com/', false],
  ['https://api.example.com/base/%252e%252e/secret', false],
  ['https://api.example.com/base/..%2fsecret', false],
  ['https://api.example.com/base/..;/secret', false],
  ['https://api.example.com/base/..%ef%bc%8fsecret', false],
  ['https://api.example.com/base/a%ef%bc%8fb/...x/%e2%80%a6', true],
  ['http://api.example.com/base/a', false],
  ['https://api.example.com:444/base/a', false],
  ['https://evil.example/base/a', false],
])('the path %s is below the base: %s', (url, expected) => {
  expect(isBelow(new URL(BASE), new URL(url))).toBe(expected);
});
