// `npm run smoke` passes against a deployment: every function and the companion from the built bundles, a process each,
// on the real emulators, behind one address as in the cloud.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { openPubsub } from '../../shared/webhooks/bus/pubsub.ts';
import { createDeployed, type Deployed } from '../support/fixtures/gateway/deployed.ts';
import { ROOT } from '../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../support/requirements.ts';

const TOPIC = 'gateway-events';

describeWith('emulators', 'the smoke test of a deployment', () => {
  let deployed: Deployed;
  let gateway: { readonly server: Server; readonly url: string };
  let socketUrl: string;

  beforeAll(async () => {
    const projectId = `smoke-${randomBytes(4).toString('hex')}`;
    deployed = await createDeployed({
      FIRESTORE_EMULATOR_HOST: inject('firestoreHost'),
      PUBSUB_EMULATOR_HOST: inject('pubsubHost'),
      GOOGLE_CLOUD_PROJECT: projectId,
      GATEWAY_TOPIC: TOPIC,
      GATEWAY_API_KEY: 'dev-key',
    });
    const companion = await deployed.startCompanion();
    socketUrl = `${companion.url.replace('http', 'ws')}/ws`;
    const [jsonrpc, health, webhook, deployments] = await Promise.all(
      ['jsonrpc', 'health', 'webhook', 'deployments'].map((name) => deployed.startFunction(companion.url, {}, name)),
    );
    gateway = await serveTogether({ jsonrpc: jsonrpc?.url, health: health?.url, webhook: webhook?.url });
    const pubsub = await openPubsub({ projectId, emulatorHost: inject('pubsubHost') });
    const [topic] = await pubsub.createTopic(TOPIC);
    await topic.createSubscription('deployments', {
      pushEndpoint: `${deployments?.url}/`,
      enableMessageOrdering: true,
    });
    await pubsub.close();
  }, 120_000);
  afterAll(async () => {
    gateway?.server.close();
    await deployed?.close();
  });

  it('the smoke test of a deployment passes: prompt, cancel, webhook to deployment.list, and the companion’s WebSocket', async () => {
    const child = spawn(process.execPath, [join(ROOT, 'functions/run.js'), 'smoke', '--ws', socketUrl, gateway.url], {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, GATEWAY_KEY: 'dev-key' },
    });
    const [stdout, [code]] = await Promise.all([text(child.stdout), once(child, 'close')]);
    expect(stdout.replace(/: .*/g, '').trim().split('\n')).toEqual(
      ['health', 'wrong key', 'limits headers', 'prompt', 'cancel', 'webhook', 'socket'].map(
        (name) => `ok      ${name}`,
      ),
    );
    expect(code).toBe(0);
  }, 120_000);
});

/** One address for the functions of a project, which passes a request on to the function of its path. */
async function serveTogether(urls: Readonly<Record<string, string | undefined>>) {
  const server = createServer((req, res) => {
    const target = urls[(req.url ?? '').split(/[/?]/)[1] ?? ''];
    if (target === undefined) return void res.writeHead(404).end();
    const { method, headers } = req;
    const passed = request(target, { method, headers }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(res);
    });
    passed.on('error', () => res.destroy());
    req.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return { server, url: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}` };
}
