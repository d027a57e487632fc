// A sandbox service without a free slot answers each call with a named error, and the calls that have a slot continue.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const OWNERS = ['first', 'second', 'third'] as const;
const keyOf = (owner: string): string => `key-of-${owner}-with-32-characters!!`;
const GATEWAY_KEYS = JSON.stringify({
  keys: OWNERS.map((id) => ({ id, key: keyOf(id), scopes: ['workspace', 'mcp', 'conversation'] })),
});
const shortSlots = { perKey: 1, total: 2, waiting: 4, waitMs: 500 };
const longSlots = { perKey: 1, total: 2 };
const FULL = { code: 503, message: 'Too many sandboxes are running', data: { reason: 'unavailable', retryable: true } };
const WAIT = 'while [ ! -e ~/go ]; do sleep 0.05; done; echo done';

describeWith('bubblewrap', 'a sandbox service that is full', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-full-'));
  let service: SandboxService;
  let gateway: LocalGateway;
  beforeAll(async () => {
    service = await startSandboxService({ dataDir, settings: { shortSlots, longSlots } });
    const env = { SANDBOX_URL: service.url, SANDBOX_TOKEN: TOKEN, GATEWAY_KEYS, GATEWAY_LIMITS: '1000000/minute' };
    gateway = await startLocalGateway({ env });
  });
  afterAll(async () => {
    await gateway.stop();
    await service.end();
    rmSync(dataDir, { recursive: true, force: true });
  });

  const post = async (owner: string, method: string, params: object): Promise<Message> => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': keyOf(owner) },
      body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
    });
    return response.json() as Promise<Message>;
  };
  const count = async (mark: string): Promise<number> => (await processesWith(mark)).length;

  it('a full service answers each further call with a named error in time, and harms no other', async () => {
    const mark = freshMark();
    const busy = ['first', 'second'];
    for (const owner of busy) await post(owner, 'interactive.start', { session_id: owner });
    const running = busy.map((owner) => post(owner, 'exec', { command: 'sh', args: ['-c', WAIT, mark] }));
    await expect.poll(() => count(mark)).toBeGreaterThanOrEqual(2);
    const server_config = { name: 'tool', command: 'cat', args: [] };
    const refused = await Promise.all([
      post('third', 'exec', { command: 'true' }),
      post('first', 'exec', { command: 'true' }),
      post('third', 'apply', { patch: '--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n', repo_path: '/home/user' }),
      post('third', 'interactive.start', { session_id: 'third' }),
      post('third', 'mcp.connect', { server_config }),
    ]);
    for (const { error } of refused) expect(error).toMatchObject(FULL);
    for (const owner of busy) await post(owner, 'interactive.input', { session_id: owner, data: 'touch ~/go\r' });
    for (const { result } of await Promise.all(running)) expect(result).toMatchObject({ stdout: 'done\n' });
    const next = await post('third', 'exec', { command: 'echo', args: ['next'] });
    expect(next.result).toMatchObject({ stdout: 'next\n' });
    await Promise.all(busy.map((owner) => post(owner, 'interactive.close', { session_id: owner })));
    expect((await post('third', 'interactive.start', { session_id: 'third' })).result).toMatchObject({
      resumed: false,
    });
    await post('third', 'interactive.close', { session_id: 'third' });
  });
});
