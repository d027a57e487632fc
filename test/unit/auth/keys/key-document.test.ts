// A key document is read or refused as a whole, and no message contains any part of a key.
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyDocumentError, parseKeyDocument, SCOPES } from '../../../../shared/config/values/key-document.ts';
import { parseLimits } from '../../../../shared/config/values/limits.ts';

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

describe('a bare key', () => {
  it('a bare key is the key of id default with every scope, white space around it ignored', () => {
    const [key, ...rest] = parseKeyDocument('s3cret-key\r\n');
    expect(rest).toEqual([]);
    expect(key).toMatchObject({ id: 'default', scopes: new Set(SCOPES) });
    expect(Buffer.from(key?.digest ?? [])).toEqual(sha256('s3cret-key'));
    expect(key).not.toHaveProperty('limits');
  });

  it.each(['', ' \n', 'two words', 'umläut', 'x'.repeat(1025)])(
    'a bare key is refused when it could not be a header value: %j',
    (text) => {
      expect(() => parseKeyDocument(text)).toThrow(KeyDocumentError);
    },
  );
});

describe('a key document', () => {
  it('a key document carries id, key or digest, scopes, limits and expiry', () => {
    const keys = parseKeyDocument(
      JSON.stringify({
        keys: [
          { id: 'ci', key: 'abc', scopes: ['webhook'], limits: '5/minute,7/day', expires_at: '2027-01-01T00:00:00Z' },
          { id: 'app', sha256: sha256('def').toString('hex').toUpperCase(), limits: ['9/hour'] },
        ],
      }),
      { scopes: ['conversation'] },
    );
    expect(keys).toEqual([
      {
        id: 'ci',
        digest: sha256('abc'),
        scopes: new Set(['webhook']),
        limits: [
          { max: 5, windowMs: 60_000 },
          { max: 7, windowMs: 86_400_000 },
        ],
        expiresAtMs: Date.UTC(2027, 0, 1),
      },
      {
        id: 'app',
        digest: sha256('def'),
        scopes: new Set(['conversation']),
        limits: [{ max: 9, windowMs: 3_600_000 }],
      },
    ]);
  });

  it('a key document may hold two keys of one id', () => {
    expect(parseKeyDocument('{"keys":[{"id":"a","key":"k1"},{"id":"a","key":"k2"}]}').map((key) => key.id)).toEqual([
      'a',
      'a',
    ]);
  });

  const secret = 'TOPSECRET';
  it.each([
    ['broken JSON', `{"keys":[{"id":"a","key":"${secret}"]}`],
    ['neither key nor digest', `{"keys":[{"id":"${secret}"}]}`],
    ['both key and digest', `{"keys":[{"id":"a","key":"${secret}","sha256":"${'0'.repeat(64)}"}]}`],
    ['a short digest', `{"keys":[{"id":"a","sha256":"${secret}"}]}`],
    ['a misspelt member', `{"keys":[{"id":"a","key":"${secret}","expire_at":"2020-01-01T00:00:00Z"}]}`],
    ['an unknown scope', `{"keys":[{"id":"a","key":"k","scopes":["${secret}"]}]}`],
    ['a key with a space', `{"keys":[{"id":"a","key":"${secret} x"}]}`],
    ['limits in another form', `{"keys":[{"id":"a","key":"k","limits":"${secret}"}]}`],
    ['a date that is none', `{"keys":[{"id":"a","key":"k","expires_at":"${secret}"}]}`],
    ['the same key twice', `{"keys":[{"id":"a","key":"${secret}"},{"id":"b","key":"${secret}"}]}`],
    ['no key at all', '{"keys":[]}'],
    ['an id of 129 characters', `{"keys":[{"id":"${'i'.repeat(129)}","key":"${secret}"}]}`],
  ])('a key document is refused without a word of its secrets: %s', (_name, payload) => {
    let thrown: unknown;
    try {
      parseKeyDocument(payload);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(KeyDocumentError);
    if (thrown instanceof KeyDocumentError) {
      expect(`${thrown.message}${thrown.stack}${String(thrown.cause)}`).not.toContain(secret);
    }
  });

  it('a key document may have members of a newer version, which are ignored with a warning that repeats none of them', () => {
    const warnings: string[] = [];
    const payload = `{"keys":[{"id":"a","key":"k"},{"id":"b","key":"l","${secret}":{"usd":5}}],"${secret}":1}`;
    const keys = parseKeyDocument(payload, {}, (message) => warnings.push(message));
    expect(keys.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(warnings).toEqual([expect.stringMatching(/ignores: document, keys\.1$/)]);
    expect(warnings.join()).not.toContain(secret);
  });

  it('a key document never throws anything but KeyDocumentError, whatever the payload', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((json) => `{"keys":${json}}`),
        ),
        (payload) => {
          try {
            parseKeyDocument(payload);
          } catch (error) {
            expect(error).toBeInstanceOf(KeyDocumentError);
          }
        },
      ),
    );
  });
});

describe('limits', () => {
  it('limits may be in every unit', () => {
    expect(parseLimits('1/second, 100/minute,1000/hour,10000/day').map((limit) => limit.windowMs)).toEqual([
      1000, 60_000, 3_600_000, 86_400_000,
    ]);
  });

  it.each([
    '',
    '0/minute',
    '-1/minute',
    '1.5/minute',
    '1/week',
    '100',
    '1/minute,2/minute',
    '9999999999/day',
    '1/minute,',
  ])('limits that mean nothing are refused: %j', (text) => {
    expect(() => parseLimits(text)).toThrow(/limit/);
  });
});
