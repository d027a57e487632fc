import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { toBackendUrl } from '../../../shared/net/backend-url.ts';

const BASE = 'https://api.example.com/base/';

it.each([
  ['/users', 'https://api.example.com/base/users'],
  ['/users?page=1#x', 'https://api.example.com/base/users?page=1'],
  ['/a%20b/ü', 'https://api.example.com/base/a%20b/%C3%BC'],
  ['/', 'https://api.example.com/base/'],
  ['/a:b@c', 'https://api.example.com/base/a:b@c'],
  ['/..a/b..', 'https://api.example.com/base/..a/b..'],
])('joins %s', (endpoint, expected) => {
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
])('refuses %j', (endpoint) => {
  expect(() => toBackendUrl(BASE, endpoint)).toThrow(RpcError);
});
