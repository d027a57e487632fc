// The trace of a request is read from its headers, is on all of its log lines, and is passed on with its calls and
// events.
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { currentTrace, inTrace, readTrace, traceHeaders } from '../../../shared/telemetry/trace.ts';
import { toMessage } from '../../../shared/webhooks/bus/cloud-event.ts';
import { toEvent } from '../../../shared/webhooks/interpret.ts';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { createCloudFixture } from '../../support/fixtures/gateway/forward.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { createFixture, deliveryOf, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN_ID = '00f067aa0ba902b7';
const TRACEPARENT = `00-${TRACE_ID}-${SPAN_ID}-01`;
const TRACE = { traceId: TRACE_ID, spanId: SPAN_ID, sampled: true };
const ON_LINE = {
  'logging.googleapis.com/trace': TRACE_ID,
  'logging.googleapis.com/spanId': SPAN_ID,
  'logging.googleapis.com/trace_sampled': true,
};

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function parse(logged: string): Record<string, unknown>[] {
  return logged
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('the headers', () => {
  it.each([
    [{ traceparent: TRACEPARENT }, TRACE],
    [{ traceparent: `00-${TRACE_ID}-${SPAN_ID}-00` }, { ...TRACE, sampled: false }],
    [{ traceparent: `cc-${TRACE_ID}-${SPAN_ID}-09-what-a-later-version-adds` }, TRACE],
    [{ 'x-cloud-trace-context': `${TRACE_ID}/67667974448284343;o=1` }, TRACE],
    [{ 'x-cloud-trace-context': `${TRACE_ID}/67667974448284343` }, { ...TRACE, sampled: false }],
    [
      { 'x-cloud-trace-context': `${TRACE_ID.toUpperCase()};o=1` },
      { ...TRACE, spanId: expect.stringMatching(/^[\da-f]{16}$/) },
    ],
    [{ traceparent: TRACEPARENT, 'x-cloud-trace-context': `${'a'.repeat(32)}/1;o=0` }, TRACE],
    [{ traceparent: 'broken', 'x-cloud-trace-context': `${TRACE_ID}/67667974448284343;o=1` }, TRACE],
  ])('the headers %j name a trace', (headers, trace) => {
    expect(readTrace(headers)).toEqual(trace);
  });

  it.each([
    {},
    { traceparent: '' },
    { traceparent: `00-${'0'.repeat(32)}-${SPAN_ID}-01` },
    { traceparent: `00-${TRACE_ID}-${'0'.repeat(16)}-01` },
    { traceparent: `ff-${TRACE_ID}-${SPAN_ID}-01` },
    { traceparent: `${TRACEPARENT}-more` },
    { traceparent: TRACEPARENT.toUpperCase() },
    { traceparent: [TRACEPARENT, TRACEPARENT] },
    { 'x-cloud-trace-context': `${'0'.repeat(32)}/1` },
    { 'x-cloud-trace-context': `${TRACE_ID}/1;o=1","severity":"ERROR` },
  ])('the headers %j name no trace', (headers) => {
    expect(readTrace(headers)).toBeUndefined();
  });
});

describe('a request', () => {
  it('a request has its trace on its log lines and in its calls of the provider, and no other request has it', async () => {
    const provider = await startModelProvider();
    closing.push(() => provider.close());
    const gateway = await startInProcess({
      ANTHROPIC_API_KEY: 'sk-test',
      ANTHROPIC_BASE_URL: provider.url,
      MODEL: 'anthropic/claude-sonnet-4-5',
    });
    closing.push(gateway.close);
    const prompt = async (headers: Record<string, string>): Promise<unknown> => {
      const seen = provider.next();
      const response = await fetch(`${gateway.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'x-api-key': 'dev-key', ...headers },
        body: JSON.stringify({
          jsonrpc: '2.0',
          id: 1,
          method: 'conversation.prompt',
          params: { prompt: '[[status 400]]' },
        }),
      });
      await response.text();
      return (await seen).headers.traceparent;
    };
    const traced = { traceparent: TRACEPARENT, tracestate: 'vendor=secret', baggage: 'user=secret' };
    expect(await prompt(traced)).toBe(TRACEPARENT);
    expect(await prompt({})).toBeUndefined();
    const lines = parse(gateway.logged()).filter(({ message }) => message === 'call' || message === 'turn failed');
    expect(lines).toHaveLength(4);
    for (const line of lines.slice(0, 2)) expect(line).toMatchObject(ON_LINE);
    for (const line of lines.slice(2)) expect(Object.keys(line).join()).not.toContain('logging.googleapis.com');
  });

  it.each([
    ['function', 'mcp.list', {}],
    ['companion', 'conversation.prompt', { prompt: 'hi' }],
  ] as const)(
    'a request whose turns run on the %s has its trace on the lines of the companion that runs %s',
    async (turnsRun, method, params) => {
      const cloud = await createCloudFixture({ MODEL: 'offline/echo' }, turnsRun);
      closing.push(cloud.close);
      const headers = { 'x-api-key': 'dev-key', traceparent: TRACEPARENT };
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
      await (await fetch(`${cloud.url}/jsonrpc`, { method: 'POST', headers, body })).text();
      expect(cloud.forwarded()).toHaveLength(1);
      expect(parse(cloud.logged()).find(({ message }) => message === 'call')).toMatchObject({ method, ...ON_LINE });
    },
  );

  it('a request that opens a WebSocket has its trace on the lines of the calls there', async () => {
    const gateway = await startInProcess();
    closing.push(gateway.close);
    const headers = { 'x-api-key': 'dev-key', traceparent: TRACEPARENT };
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws`, { headers });
    await once(socket, 'open');
    socket.send('{"jsonrpc":"2.0","id":1,"method":"auth.limits"}');
    await once(socket, 'message');
    socket.terminate();
    expect(parse(gateway.logged()).find(({ message }) => message === 'call')).toMatchObject(ON_LINE);
  });
});

describe('an event', () => {
  it('an event carries the trace of the request that recorded it to its subscribers', async () => {
    const event = toEvent(deliveryOf(REFERENCE_EVENT), Date.now());
    expect(toMessage(event).attributes).not.toHaveProperty('ce-traceparent');
    const message = inTrace(TRACE, () => toMessage(event));
    expect(message.attributes).toMatchObject({ 'ce-traceparent': TRACEPARENT });
    const fixture = await createFixture();
    closing.push(fixture.close);
    const url = await fixture.listen();
    const { data, attributes } = message;
    const envelope = { message: { data: data.toString('base64'), attributes, messageId: 'm' } };
    const response = await fetch(`${url}/deployments`, { method: 'POST', body: JSON.stringify(envelope) });
    expect(response.status).toBe(204);
    fixture.services.log.flush();
    const [line] = parse(fixture.logged.join('')).filter((found) => found.message === 'deployment event');
    expect(line).toMatchObject(ON_LINE);
  });
});

it('a trace is in effect for what the work starts, and nowhere else', async () => {
  const later = inTrace(TRACE, () => new Promise((resolve) => setImmediate(() => resolve(traceHeaders()))));
  expect([currentTrace(), traceHeaders()]).toEqual([undefined, {}]);
  expect(await later).toEqual({ traceparent: TRACEPARENT });
});
