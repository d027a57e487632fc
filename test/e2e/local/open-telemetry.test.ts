// Real gateway processes send the spans of their requests to a collector, here an OTLP receiver on loopback.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type OtlpReceiver, startOtlpReceiver } from '../../support/fixtures/network/otlp-receiver.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const CALLER_SPAN = '00f067aa0ba902b7';
const TRACED = { traceparent: `00-${TRACE_ID}-${CALLER_SPAN}-01` };
/** Prints a line when the process loads the module, or the bundler's chunk, that has OpenTelemetry. */
const WATCH_LOADS = `data:text/javascript,import { registerHooks } from 'node:module';
  registerHooks({ load(url, context, next) {
    if (url.includes('otlp-tracer')) process.stderr.write('OpenTelemetry loaded\\n');
    return next(url, context);
  } });`;

let provider: ModelProvider;
let receiver: OtlpReceiver;
const gateways: LocalGateway[] = [];
beforeAll(async () => {
  [provider, receiver] = await Promise.all([startModelProvider(), startOtlpReceiver()]);
});
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.stop()));
  await Promise.all([provider.close(), receiver.close()]);
});

async function start(env: Record<string, string>): Promise<LocalGateway> {
  const gateway = await startLocalGateway({
    nodeArgs: ['--import', WATCH_LOADS],
    env: {
      GATEWAY_STORE: 'memory',
      GATEWAY_LOG: 'json',
      ANTHROPIC_API_KEY: 'sk-test',
      ANTHROPIC_BASE_URL: provider.url,
      MODEL: 'anthropic/claude-sonnet-4-5',
      ...env,
    },
  });
  gateways.push(gateway);
  return gateway;
}

async function prompt({ url }: LocalGateway, text: string, headers: Record<string, string>): Promise<string> {
  const params = { prompt: text, session_id: 'my-session' };
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'x-api-key': 'dev-key', ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params }),
  });
  return response.text();
}

it('a request and its call of a model are spans of the trace of the caller, and reach the collector at SIGTERM', async () => {
  const gateway = await start({
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20collector-token',
    OTEL_SERVICE_NAME: 'my-gateway',
  });
  const seen = provider.next();
  expect(await prompt(gateway, 'hello secret-prompt', TRACED)).toContain('"result"');
  expect(await prompt(gateway, '[[status 400]]', {})).toContain('"error"');
  const sent = (await seen).headers.traceparent;
  expect(await gateway.stop()).toBe(0);
  expect(receiver.headers.authorization).toBe('Bearer collector-token');

  const ofTrace = receiver.spans.filter(({ traceId }) => traceId === TRACE_ID);
  expect(ofTrace.map(({ name }) => name).sort()).toEqual(['POST /jsonrpc', 'chat claude-sonnet-4-5']);
  const server = ofTrace.find(({ kind }) => kind === 'server');
  const chat = ofTrace.find(({ kind }) => kind === 'client');
  expect(server).toMatchObject({
    parentSpanId: CALLER_SPAN,
    isError: false,
    attributes: { 'http.request.method': 'POST', 'http.route': '/jsonrpc', 'http.response.status_code': 200 },
    resource: { 'service.name': 'my-gateway', 'service.version': expect.stringMatching(/^\d+\.\d+\.\d+/) },
  });
  expect(chat).toMatchObject({
    parentSpanId: server?.spanId,
    isError: false,
    attributes: {
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'anthropic',
      'gen_ai.request.model': 'claude-sonnet-4-5',
      'gen_ai.response.model': 'claude-sonnet-4-5',
      'gen_ai.conversation.id': expect.stringMatching(/^conv_/),
      'gen_ai.usage.input_tokens': expect.any(Number),
      'gen_ai.usage.output_tokens': expect.any(Number),
      'gen_ai.response.finish_reasons': ['stop'],
    },
  });
  expect(chat?.startNs).toBeLessThanOrEqual(chat?.endNs ?? 0n);
  // The provider and the log get the span of the request.
  expect(sent).toBe(`00-${TRACE_ID}-${server?.spanId}-01`);
  expect(gateway.output()).toContain(`"logging.googleapis.com/spanId":"${server?.spanId}"`);

  const failed = receiver.spans.find(({ name, isError }) => name.startsWith('chat') && isError);
  expect(failed?.attributes).toMatchObject({ 'error.type': 'upstream_error', 'gen_ai.operation.name': 'chat' });
  expect(failed?.traceId).not.toBe(TRACE_ID);
  const all = JSON.stringify(receiver.spans, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
  expect(all).not.toMatch(/secret-prompt|dev-key|sk-test|my-session/);
});

it('OpenTelemetry is loaded where a collector is configured, and nowhere else', async () => {
  const without = await start({});
  expect(await prompt(without, 'hello', TRACED)).toContain('"result"');
  expect(without.output()).not.toContain('OpenTelemetry loaded');
  expect((await start({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint })).output()).toContain('OpenTelemetry loaded');
});

it('a collector that is down costs no answer, and the process ends in time', async () => {
  const gateway = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' });
  expect(await prompt(gateway, 'hello', {})).toContain('"result"');
  expect(await gateway.stop()).toBe(0);
});
