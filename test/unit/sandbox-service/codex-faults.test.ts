// After a fault between a gateway and the sandbox service during a turn of the real Codex, the turn ends, its error
// states whether it may have had an effect, and its session stays usable.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ResponsesApi, startResponsesApi } from '../../support/fakes/model-provider/responses-api.ts';
import type { Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type LinkProxy, startLinkProxy } from '../../support/fixtures/network/link-proxy.ts';
import { API_KEY, byPrompt, codexProgram, textsIn } from '../../support/fixtures/sandbox/codex.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const times = { pingMs: 300, silenceMs: 1_500, overMs: 4_000, tickMs: 100, handshakeMs: 1_000 };
const LOST = {
  code: 503,
  message: expect.stringMatching(/connection to the sandbox service was lost.*Codex turn may have had an effect/),
  data: { reason: 'unavailable', retryable: false, may_have_effect: true },
};
const isRunning = async (mark: string): Promise<boolean> => (await processesWith(mark)).length > 0;

describeWith('codex', 'faults of the sandbox service in a Codex turn', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'codex-faults-'));
  let api: ResponsesApi;
  let port: number;
  let service: SandboxService;
  let proxy: LinkProxy;
  let gateway: LocalGateway;
  const startService = (): Promise<SandboxService> =>
    startSandboxService({ port, dataDir, env: { CODEX_BIN: codexProgram() }, settings: { times } });
  beforeAll(async () => {
    api = await startResponsesApi();
    api.behave(byPrompt);
    port = await freePort();
    service = await startService();
    proxy = await startLinkProxy(port);
    const own = { SANDBOX_URL: proxy.url, SANDBOX_TOKEN: TOKEN, ENGINE: 'codex', GATEWAY_LIMITS: '1000000/minute' };
    const provider = { OPENAI_API_KEY: API_KEY, OPENAI_BASE_URL: api.url };
    gateway = await startLocalGateway({ settings: { times }, env: { ...own, ...provider } });
  });
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
    await service.end();
    await api.close();
    rmSync(dataDir, { recursive: true, force: true });
  });

  const prompt = async (session_id: string, text: string): Promise<Message> => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        method: 'conversation.prompt',
        params: { session_id, prompt: text },
        id: 1,
      }),
    });
    return response.json() as Promise<Message>;
  };
  /** The next turn of the session is answered, with what came before. */
  const expectGoesOn = async (session: string, ...before: string[]): Promise<void> => {
    expect((await prompt(session, 'and now?')).result).toMatchObject({ content: 'You said: and now?' });
    expect(textsIn(api.requests.at(-1))).toEqual(expect.arrayContaining([...before, 'and now?']));
  };

  it('a service that is killed while a command of Codex runs ends the turn, and the session stays usable', async () => {
    const mark = freshMark();
    await prompt('killed', 'hello');
    const turn = prompt('killed', `run sleep ${mark}`);
    await expect.poll(() => isRunning(mark), { timeout: 20_000 }).toBe(true);
    await service.end('SIGKILL');
    service = await startService();
    expect((await turn).error).toMatchObject(LOST);
    await expect.poll(() => isRunning(mark)).toBe(false);
    await expectGoesOn('killed', 'hello', 'You said: hello', `run sleep ${mark}`);
  });

  it('a turn ends whose connection loses everything while the model answers, and the next ones run, though slowly', async () => {
    await prompt('lost', 'hello');
    api.behave(() => ({ text: ['never', ' over'], gate: new Promise(() => {}) }));
    const arrived = api.next();
    const turn = prompt('lost', 'count');
    const request = await arrived;
    proxy.loseAll(true);
    expect((await turn).error).toMatchObject(LOST);
    expect(await request.ended).toBe('client');
    proxy.loseAll(false);
    api.behave(byPrompt);
    proxy.delay(100);
    await expectGoesOn('lost', 'hello', 'You said: hello', 'count');
    expect((await prompt('lost', 'run echo $((40+2))')).result?.content).toContain('42');
    proxy.delay(0);
  });

  it('a connection that is cut while a command of Codex runs: the turn continues', async () => {
    const mark = freshMark();
    const turn = prompt('cut', `run sleep 1; echo ${mark}`);
    await expect.poll(() => isRunning(mark), { timeout: 20_000 }).toBe(true);
    proxy.cut();
    expect((await turn).result?.content).toContain(mark);
  });
});
