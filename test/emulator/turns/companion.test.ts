// WebSockets work across instances that share only Firestore: a prompt whose reader is disconnected repeatedly
// continues on another instance, events that one instance records reach readers of another, and a ticket is valid on
// all.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { untilServing } from '../../support/fixtures/clients/turn-client.ts';
import { type Client, connect, type Message, refusal } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const CHUNKS = 60;
/** A deadline for busy machines, not a pause. */
const SLOW_MS = 30_000;

describeWith('emulators', 'two gateways on one Firestore', () => {
  let provider: ModelProvider;
  let first: LocalGateway;
  let second: LocalGateway;
  beforeAll(async () => {
    provider = await startModelProvider();
    const env = {
      FIRESTORE_EMULATOR_HOST: inject('firestoreHost'),
      GOOGLE_CLOUD_PROJECT: `demo-ws-${randomBytes(6).toString('hex')}`,
      METADATA_SERVER_DETECTION: 'none',
      GATEWAY_BUS: 'local',
      GATEWAY_LIMITS: '100000/minute',
      ANTHROPIC_API_KEY: 'sk-test',
      ANTHROPIC_BASE_URL: provider.url,
      MODEL: 'anthropic/claude-sonnet-4-5',
    };
    [first, second] = await Promise.all([startLocalGateway({ env }), startLocalGateway({ env })]);
    await Promise.all([first, second].map(({ url }) => untilServing(url)));
  });
  afterAll(async () => {
    await Promise.all([first.stop(), second.stop()]);
    await provider.close();
  });

  const socketOf = (gateway: LocalGateway): string => `${gateway.url.replace('http', 'ws')}/ws`;
  const eventsOf = ({ received }: Client): Message[] =>
    received.filter(({ method }) => method === 'conversation.event');
  const seqsOf = (client: Client): number[] => eventsOf(client).map(({ params }) => Number(params?.seq));

  it('a prompt streamed over a socket that is cut three times is resumed on the other process, every event exactly once', async () => {
    const session_id = 'cut';
    const seqs: number[] = [];
    let client = await connect(socketOf(first));
    client.send({
      jsonrpc: '2.0',
      method: 'conversation.prompt',
      params: { prompt: `[[chunks ${CHUNKS} every 60]]`, session_id },
      id: 1,
    });
    let turn_id: unknown;
    for (let cut = 1; cut <= 3; cut++) {
      // Or the answer, where a machine has slept through the rest of the turn.
      await client.until(({ params, id }) => id !== undefined || Number(params?.seq) >= cut * 10);
      client.socket.terminate();
      await client.closed;
      turn_id ??= eventsOf(client)[0]?.params?.turn_id;
      seqs.push(...seqsOf(client));
      // To the other process, and back once: the turn runs on the first all the time.
      client = await connect(socketOf(cut === 2 ? first : second));
      client.send({
        jsonrpc: '2.0',
        method: 'conversation.resume',
        params: { session_id, turn_id, after_seq: seqs.at(-1) },
        id: 'resumed',
      });
    }
    const { result } = await client.until(({ id }) => id === 'resumed');
    seqs.push(...seqsOf(client));
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, index) => index + 1));
    expect(result).toMatchObject({ status: 'completed', turn_id, last_seq: seqs.length });
    expect(result?.content).toBe(Array.from({ length: CHUNKS }, (_, n) => `${n} `).join(''));
    expect(seqs.length).toBeGreaterThan(CHUNKS);
    client.socket.close();
  }, 60_000);

  it('events recorded by one instance are received on both, each once, and after a cut from where the reader stood', async () => {
    const send = async (gateway: LocalGateway, n: number): Promise<void> => {
      const answer = await fetch(`${gateway.url}/webhook`, {
        method: 'POST',
        headers: { 'X-API-Key': 'dev-key' },
        body: JSON.stringify({
          event: 'deployment.success',
          timestamp: new Date().toISOString(),
          data: { service: 'wrapper', n },
        }),
      });
      expect(answer.status).toBeLessThan(300);
    };
    const numbers = ({ received }: Client): number[] =>
      received.flatMap(({ method, params }) =>
        method === 'event' ? [z.object({ data: z.object({ n: z.number() }) }).parse(params).data.n] : [],
      );
    const untilReceived = (client: Client, count: number) =>
      expect.poll(() => numbers(client).length, { interval: 20, timeout: SLOW_MS }).toBeGreaterThanOrEqual(count);
    const [here, there] = await Promise.all([connect(socketOf(first)), connect(socketOf(second))]);
    await Promise.all([here, there].map((client) => client.call('events.subscribe')));
    await Promise.all(Array.from({ length: 20 }, (_, n) => send(n % 2 === 0 ? first : second, n)));
    await Promise.all([untilReceived(here, 20), untilReceived(there, 20)]);
    for (const client of [here, there])
      expect(numbers(client).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    const cursor = there.received.findLast(({ method }) => method === 'event')?.params?.cursor;
    there.socket.terminate();
    await Promise.all([20, 21, 22].map((n) => send(first, n)));
    const again = await connect(socketOf(first));
    await again.call('events.subscribe', { after: cursor });
    await send(second, 23);
    await untilReceived(again, 4);
    expect(numbers(again).sort((a, b) => a - b)).toEqual([20, 21, 22, 23]);
    for (const client of [here, again]) client.socket.close();
  }, 60_000);

  it('a ticket of one instance opens one socket, on either', async () => {
    const client = await connect(socketOf(first));
    const { result } = await client.call('auth.ticket');
    const protocols = (result?.protocols ?? []) as string[];
    const attempt = async (gateway: LocalGateway): Promise<number> =>
      (await refusal(socketOf(gateway), { protocols })).status;
    const opened = await connect(socketOf(second), { headers: {}, protocols });
    expect((await opened.call('conversation.list')).result).toBeDefined();
    expect(await Promise.all([attempt(first), attempt(second)])).toEqual([401, 401]);
    for (const one of [client, opened]) one.socket.close();
  });
});
