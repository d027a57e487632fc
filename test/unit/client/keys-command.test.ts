// `npm run gateway -- keys` adds, lists and revokes keys without printing key material. It uses the real client library
// against a small Secret Manager.
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { runKeys } from '../../../functions/cli/keys/run-keys.ts';
import { connectSecret } from '../../../shared/auth/keys/secret-versions.ts';
import { type FakeSecretManager, startFakeSecretManager } from '../../support/fakes/secret-manager.ts';

// The client would otherwise look for a metadata server to find its universe.
vi.stubEnv('METADATA_SERVER_DETECTION', 'none');
let fake: FakeSecretManager;
beforeEach(async () => {
  fake = await startFakeSecretManager({ secret: 'projects/p/secrets/gateway-api-key' });
});
afterEach(() => fake.stop());

async function run(...argv: string[]): Promise<{ readonly out: string; readonly note: string }> {
  const [out, note]: [string[], string[]] = [[], []];
  await runKeys(argv, {
    env: { GOOGLE_CLOUD_PROJECT: 'p' },
    connect: (secret) => connectSecret(secret, fake.clientOptions),
    out: (text) => out.push(text),
    note: (text) => note.push(text),
  });
  return { out: out.join(''), note: note.join('') };
}

it('the keys command prints only the key of an add, lists no key material, and revokes one of two by its digest', async () => {
  const options = ['--scopes', 'conversation, webhook', '--limits', '5/minute'];
  const { out: added, note } = await run('add', 'app', ...options);
  const key = added.trim();
  expect(key).toMatch(/^cgw_\w{38}$/);
  expect(note).not.toContain(key);
  await run('add', 'app');
  const digest = createHash('sha256').update(key).digest('hex').slice(0, 12);
  const { out: table } = await run('list');
  expect(table).not.toContain(key);
  expect(table).toMatch(new RegExp(`^app +${digest} +2 +- +5/60s +conversation,webhook$`, 'm'));
  expect((await run('revoke', 'app', '--sha256', digest)).note).toContain('1 key of app removed');
  expect((await run('list')).out.match(/^app /gm)).toHaveLength(1);
});

it.each([
  [[], 'the command is missing or unknown: add, list or revoke'],
  [['drop'], 'the command is missing or unknown: add, list or revoke'],
  [['add'], 'add needs the id of the key'],
  [['list', 'app'], 'too many arguments'],
  [['revoke', 'app', 'other'], 'too many arguments'],
  [['revoke', 'app', '--sha256', ''], '--sha256 needs the first digits of a digest'],
  [['revoke', 'app', '--sha256', 'old'], '--sha256 needs the first digits of a digest'],
  [['list', '--project', ''], 'set GOOGLE_CLOUD_PROJECT, or --project'],
  [['list', '--unknown'], "Unknown option '--unknown'"],
])('the keys command refuses %j before it connects', async (argv, message) => {
  await expect(run(...argv)).rejects.toThrow(message);
  expect(fake.calls.list).toBe(0);
});
