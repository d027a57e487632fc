// Codex can use a caller's own ChatGPT account through the whole gateway. The token of the account is sent to ChatGPT's
// backend and to no other receiver.
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ResponsesApi, startResponsesApi } from '../../../../support/fakes/model-provider/responses-api.ts';
import { type InProcessGateway, startInProcess } from '../../../../support/fixtures/gateway/in-process.ts';
import { API_KEY, appServers, byPrompt, codexProgram } from '../../../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../../../support/requirements.ts';

const CLAIMS = { exp: 4_000_000_000, 'https://api.openai.com/auth': { chatgpt_account_id: 'account-1' } };
const TOKEN = `e30.${Buffer.from(JSON.stringify(CLAIMS)).toString('base64url')}.c2lnbmF0dXJlLW9mLWEtdG9rZW4`;
/** The token, its end, and encodings that could hide it from a search. */
const TRACES = [
  ...[TOKEN, TOKEN.slice(-24)],
  ...(['base64', 'base64url', 'hex'] as const).map((encoding) => Buffer.from(TOKEN).toString(encoding)),
];

describeWith('codex', 'a ChatGPT login used with Codex', () => {
  let directory: string;
  let api: ResponsesApi;
  let gateway: InProcessGateway;
  let responseText = '';
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'codex-login-'));
    api = await startResponsesApi();
    api.behave(byPrompt);
    gateway = await startInProcess({
      GATEWAY_STORE: 'embedded',
      CODEX_BIN: codexProgram(),
      GATEWAY_DATA_DIR: directory,
      OPENAI_API_KEY: API_KEY,
      OPENAI_BASE_URL: api.url,
      CHATGPT_BASE_URL: `${api.url}/backend-api`,
      PATH: process.env.PATH,
    });
  });
  afterAll(async () => {
    await gateway.close();
    await api.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const call = async (method: string, params: object): Promise<unknown> => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key', Accept: 'text/event-stream' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    const text = await response.text();
    responseText += text;
    return JSON.parse(text.slice(text.lastIndexOf('data: ') + 'data: '.length));
  };

  it('Codex calls ChatGPT’s backend with the token of the login, and leaves no trace of it', async () => {
    const login = await call('auth.login', { provider: 'chatgpt', credentials: { token: TOKEN } });
    expect(login).toMatchObject({ result: { provider: 'chatgpt' } });
    expect(api.checks.seen.map(({ path }) => path)).toEqual(['/backend-api/wham/usage']);
    const auth_session_id = Reflect.get(Reflect.get(Object(login), 'result'), 'session_id');
    const look =
      'env; cat /proc/*/environ /proc/*/cmdline; grep -rl c2lnbmF0dXJ[l] /home /tmp /dev /etc /run /var; echo looked';
    const answer = await call('conversation.prompt', { prompt: `run ${look}`, session_id: 's', auth_session_id });
    expect(answer).toMatchObject({
      result: { model: 'codex/gpt-6.1-sol', content: expect.stringContaining('looked') },
    });
    expect(api.requests).toHaveLength(2);
    for (const request of api.requests) {
      const { path, authorization, account } = request;
      expect({ path, authorization, account }).toEqual({
        path: '/backend-api/codex/responses',
        authorization: `Bearer ${TOKEN}`,
        account: 'account-1',
      });
    }

    const [pid = 0] = appServers();
    expect(pid).toBeGreaterThan(0);
    const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .map((name) => join(directory, name))
      .filter((file) => lstatSync(file, { throwIfNoEntry: false })?.isFile() === true);
    expect(files.some((file) => file.endsWith('.jsonl'))).toBe(true);
    expect(files.some((file) => file.includes('gateway.sqlite'))).toBe(true);
    const places = new Map(
      [...files, `/proc/${pid}/environ`, `/proc/${pid}/cmdline`].map((file) => [file, readFileSync(file, 'latin1')]),
    );
    places.set('responses', responseText).set('log', gateway.logged());
    expect(gateway.logged()).toContain('auth.login');
    const leaks = [...places].filter(([, text]) => TRACES.some((trace) => text.includes(trace)));
    expect(leaks.map(([place]) => place)).toEqual([]);
  });

  it('Codex calls with the deployment’s own key again when a prompt names no login', async () => {
    await call('conversation.prompt', { prompt: 'mine', session_id: 's', model: 'codex/gpt-6.1-sol' });
    expect(api.requests.at(-1)).toMatchObject({
      path: '/v1/responses',
      authorization: `Bearer ${API_KEY}`,
      account: undefined,
    });
    expect(api.strays).toEqual([]);
  });
});
