// The client returns an answer typed by a schema of the caller, or throws. The server of the suite answers as a gateway
// does.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { CodexGatewayClient } from '../../../shared/client/gateway-client.ts';
import type { StandardSchema } from '../../../shared/client/structured.ts';

let server: Server;
let client: CodexGatewayClient;
let output: unknown;
const sent: unknown[] = [];
beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { id, params } = JSON.parse(body);
    sent.push(params);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: { content: JSON.stringify(output), output } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = new CodexGatewayClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 'dev-key');
});
afterAll(() => server.close().closeAllConnections());

const Rivers = z.array(z.object({ name: z.string(), lengthKm: z.coerce.number().positive() }));

it('structured sends the JSON Schema of the schema and returns the output as the schema returns it', async () => {
  output = [{ name: 'Po', lengthKm: '652' }];
  const answer = await client.structured(Rivers, { prompt: 'Name rivers', session_id: 's' });
  const [river] = answer.output;
  const lengthKm: number | undefined = river?.lengthKm;
  expect(lengthKm).toBe(652);
  // @ts-expect-error: the output is not any
  expect(river?.length).toBeUndefined();
  expect(answer.content).toBe(JSON.stringify(output));
  expect(sent.at(-1)).toMatchObject({
    prompt: 'Name rivers',
    idempotency_key: expect.any(String),
    output_schema: { type: 'array', items: { type: 'object', required: expect.arrayContaining(['name']) } },
  });
});

it('structured throws where the output fails the checks of the schema', async () => {
  output = [{ name: 'Po', lengthKm: -1 }];
  await expect(client.structured(Rivers, { prompt: 'Name rivers' })).rejects.toMatchObject({
    reason: 'bad_response',
    message: expect.stringContaining('does not match the schema'),
  });
});

it('structured accepts a Standard Schema without a JSON Schema beside output_schema only', async () => {
  const Text: StandardSchema<string> = {
    '~standard': { validate: (value) => ({ value: `checked ${value}` }) },
  };
  output = 'x';
  await expect(client.structured(Text, { prompt: 'x' })).rejects.toThrow(TypeError);
  const answer = await client.structured(Text, { prompt: 'x', output_schema: { type: 'string' } });
  expect(answer.output.startsWith('checked x')).toBe(true);
});
