// A prompt that names a login runs where its credential can be used: a login of ChatGPT works with Codex only, which
// runs on the companion. The companion here is a server that counts calls and answers with the method's example.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { CALL_CONTENT_TYPE } from '../../../shared/forward/call.ts';
import { openCompanionService } from '../../../shared/forward/companion-service.ts';
import { forwardToCompanion } from '../../../shared/forward/forward.ts';
import { createHttpCompanion } from '../../../shared/forward/http-companion.ts';
import { createGateway, type Gateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import { conversationPrompt } from '../../../shared/methods/conversation.prompt.ts';
import { proto } from '../../../shared/methods/proto.ts';
import { SubmissionSchema } from '../../../shared/proto/gateway_pb.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import type { Services } from '../../../shared/services.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';

let provider: ModelProvider;
let companion: Server;
let store: Store;
let services: Services;
let gateway: Gateway;
const logins = { chatgpt: '', openai: '', theirs: '' };
let forwarded = 0;
let loginReads = 0;

beforeAll(async () => {
  provider = await startModelProvider();
  companion = createServer(async (req, res) => {
    const body: string[] = [];
    for await (const chunk of req) body.push(String(chunk));
    forwarded++;
    const { method } = JSON.parse(body.join(''));
    const { result } = (method === 'proto' ? proto : conversationPrompt).example;
    res
      .writeHead(200, { 'Content-Type': CALL_CONTENT_TYPE })
      .end(`${JSON.stringify({ jsonrpc: '2.0', result, id: 1 })}\n`);
  });
  companion.listen(0, '127.0.0.1');
  await once(companion, 'listening');
  const url = `http://127.0.0.1:${(companion.address() as AddressInfo).port}`;

  store = createEmbeddedStore({ path: ':memory:', clock: { now: Date.now } });
  const config = loadConfig({
    GATEWAY_STORE: 'memory',
    GATEWAY_BUS: 'local',
    OPENAI_BASE_URL: provider.url,
    CHATGPT_BASE_URL: `${provider.url}/backend-api`,
  });
  services = await createServices(config, {
    log: createLogger({ format: 'json', write: () => {} }),
    store: {
      ...store,
      get(refs, options) {
        loginReads += refs.filter(({ collection }) => collection === 'logins').length;
        return store.get(refs, options);
      },
    },
  });
  const { signal } = new AbortController();
  const logIn = async (owner: string, name: 'chatgpt' | 'openai'): Promise<string> =>
    (await services.logins.login(owner, name, 'a-token-of-somebody', signal)).sessionId;
  logins.chatgpt = await logIn('default', 'chatgpt');
  logins.openai = await logIn('default', 'openai');
  logins.theirs = await logIn('somebody-else', 'chatgpt');
  const remote = createHttpCompanion({ service: openCompanionService(url), authorization: async () => 'Bearer x' });
  gateway = createGateway(services, forwardToCompanion(createRegistry([conversationPrompt, proto]), remote));
});
afterAll(async () => {
  companion.closeAllConnections();
  companion.close();
  await services.close();
  await store.close();
  await provider.close();
});
beforeEach(() => {
  forwarded = 0;
  loginReads = 0;
});

async function call(method: string, params: object): Promise<unknown> {
  const reply = await gateway.handle({
    caller: await gateway.authenticate({ 'x-api-key': 'dev-key' }),
    body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 })),
    requestId: 'r',
    transport: 'http',
    signal: new AbortController().signal,
  });
  return JSON.parse(reply.text ?? '');
}

describe('a prompt with a login of ChatGPT and no model', () => {
  it('a prompt with a login of ChatGPT and no model is forwarded to where Codex runs', async () => {
    const answer = await call('conversation.prompt', { prompt: 'hi', auth_session_id: logins.chatgpt });
    expect(answer).toMatchObject({ result: conversationPrompt.example.result });
    expect({ forwarded, loginReads }).toEqual({ forwarded: 1, loginReads: 1 });
  });

  it('a prompt with a login of ChatGPT and no model is forwarded as a protobuf Submission too', async () => {
    const submission = create(SubmissionSchema, { prompt: 'hi', authSessionId: logins.chatgpt });
    const data = Buffer.from(toBinary(SubmissionSchema, submission)).toString('base64');
    expect(await call('proto', { stream_id: 's', data })).toMatchObject({ result: proto.example.result });
    expect(forwarded).toBe(1);
  });
});

it('a model of Codex is forwarded without a look at the login', async () => {
  await call('conversation.prompt', { prompt: 'hi', model: 'codex/gpt-5.5', auth_session_id: logins.chatgpt });
  expect({ forwarded, loginReads }).toEqual({ forwarded: 1, loginReads: 0 });
});

describe('stays on the function', () => {
  it('a prompt that names no login stays on the function, which does not look for one', async () => {
    expect(await call('conversation.prompt', { prompt: 'hi' })).toMatchObject({ result: { model: 'offline/echo' } });
    expect({ forwarded, loginReads }).toEqual({ forwarded: 0, loginReads: 0 });
  });

  it('a prompt with a login of a provider that is called directly stays on the function', async () => {
    const answer = await call('conversation.prompt', { prompt: 'hi', auth_session_id: logins.openai });
    expect(answer).toMatchObject({ result: { content: 'You said: hi' } });
    expect(forwarded).toBe(0);
  });

  it('a model that the login is not for is refused by the function', async () => {
    const params = { prompt: 'hi', model: 'openai/gpt-5', auth_session_id: logins.chatgpt };
    expect(await call('conversation.prompt', params)).toMatchObject({ error: { code: -32602 } });
    expect(forwarded).toBe(0);
  });

  it('a login of another key is answered like one that does not exist', async () => {
    const promptWith = (auth_session_id: string): Promise<unknown> =>
      call('conversation.prompt', { prompt: 'hi', auth_session_id });
    const theirs = await promptWith(logins.theirs);
    expect(theirs).toMatchObject({ error: { code: 404 } });
    expect(theirs).toEqual(await promptWith('auth_unknown'));
    expect(forwarded).toBe(0);
  });
});
