// A request is authenticated by its two headers alone. A refusal does not contain what was presented.
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, it } from 'vitest';
import { createAuthenticate } from '../../../shared/auth/authenticate.ts';
import { createEnvKeys } from '../../../shared/auth/keys/env-keys.ts';
import type { Caller } from '../../../shared/auth/keys/keys.ts';
import { RpcError } from '../../../shared/errors.ts';

const NOW = Date.UTC(2026, 0, 1);
const defaultLimits = [{ max: 100, windowMs: 60_000 }];
const keys = createEnvKeys(
  JSON.stringify({
    keys: [
      { id: 'app', key: 'app-key', scopes: ['conversation'] },
      { id: 'ci', key: 'ci-key', limits: '3/hour' },
      { id: 'old', key: 'old-key', expires_at: '2026-01-01T00:00:00Z' },
      { id: 'soon', key: 'soon-key', expires_at: '2026-01-01T00:00:00.001Z' },
    ],
  }),
);
const authenticate = createAuthenticate({ keys, clock: { now: () => NOW, monotonic: () => 0 }, defaultLimits });

async function refusal(headers: IncomingHttpHeaders): Promise<RpcError> {
  try {
    await authenticate(headers);
  } catch (error) {
    if (error instanceof RpcError) return error;
    throw error;
  }
  throw new Error('was admitted');
}

describe('authenticate', () => {
  it.each<[string, IncomingHttpHeaders]>([
    ['X-API-Key', { 'x-api-key': 'app-key' }],
    ['Authorization: Bearer', { authorization: 'Bearer app-key' }],
    ['a scheme in any case', { authorization: 'bearer  app-key ' }],
    ['both when they agree', { 'x-api-key': 'app-key', authorization: 'Bearer app-key' }],
    ['X-API-Key beside another scheme', { 'x-api-key': 'app-key', authorization: 'Basic dTpw' }],
    ['Bearer beside an empty X-API-Key', { 'x-api-key': '', authorization: 'Bearer app-key' }],
    ['X-API-Key beside another scheme', { 'x-api-key': 'app-key', authorization: 'Basic dTpw' }],
    ['X-API-Key beside a token that is no key', { 'x-api-key': 'app-key', authorization: 'Bearer a.b.c' }],
    ['X-API-Key beside a long token', { 'x-api-key': 'app-key', authorization: `Bearer ${'x'.repeat(8_000)}` }],
  ])('authenticate admits a key in %s', async (_name, headers) => {
    expect(await authenticate(headers)).toEqual<Caller>({
      keyId: 'app',
      scopes: new Set(['conversation']),
      limits: defaultLimits,
      digest: createHash('sha256').update('app-key').digest(),
    });
  });

  it('authenticate returns the caller synchronously when keys are in memory', () => {
    expect(authenticate({ 'x-api-key': 'app-key' })).not.toBeInstanceOf(Promise);
  });

  it('a key has its own limits, else those of the deployment', async () => {
    expect((await authenticate({ 'x-api-key': 'ci-key' })).limits).toEqual([{ max: 3, windowMs: 3_600_000 }]);
  });

  it.each<[string, IncomingHttpHeaders, RegExp]>([
    ['no credentials', {}, /X-API-Key header/],
    ['an unknown key', { 'x-api-key': 'app-kez' }, /not valid/],
    ['a prefix of a key', { 'x-api-key': 'app-ke' }, /not valid/],
    ['two different keys', { 'x-api-key': 'app-key', authorization: 'Bearer ci-key' }, /different keys/],
    ['two X-API-Key headers, joined by node', { 'x-api-key': 'app-key, app-key' }, /not valid/],
    ['a list of keys', { 'x-api-key': ['app-key', 'app-key'] }, /not valid/],
    [
      'a wrong key beside a token that is a key',
      { 'x-api-key': 'wrong', authorization: 'Bearer app-key' },
      /not valid/,
    ],
    ['another scheme', { authorization: 'Basic app-key' }, /X-API-Key header/],
    ['an oversized key', { 'x-api-key': 'k'.repeat(1025) }, /not valid/],
    ['an oversized Authorization', { authorization: `Bearer${' '.repeat(100_000)}k` }, /not valid/],
    ['an expired key', { 'x-api-key': 'old-key' }, /expired/],
  ])('authenticate refuses %s', async (_name, headers, message) => {
    const error = await refusal(headers);
    expect(error.reason).toBe('unauthorized');
    expect(error.httpStatus).toBe(401);
    expect(error.message).toMatch(message);
  });

  it('a key is admitted until the millisecond it expires', async () => {
    expect((await authenticate({ 'x-api-key': 'soon-key' })).keyId).toBe('soon');
  });

  it('authenticate never repeats what was presented', async () => {
    const error = await refusal({ 'x-api-key': 'almost-a-secret' });
    expect(JSON.stringify(error.toWire('r'))).not.toContain('almost-a-secret');
  });
});
