// A call of the channel on which the store calls Firestore ends with its responses, its error, its deadline or its
// abort. The service is a gRPC server on loopback, without credentials.
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { type handleServerStreamingCall, Server, ServerCredentials, status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type GrpcMethod, openGrpcChannel } from '../../../shared/grpc/grpc-channel.ts';

afterEach(() => void vi.unstubAllEnvs());

const METHOD: GrpcMethod<string, string> = {
  path: '/test.Texts/Get',
  encode: (text) => new TextEncoder().encode(text),
  decode: (bytes) => new TextDecoder('utf-8', { fatal: true }).decode(bytes),
};
const bounds = (timeoutMs = 60_000, signal = new AbortController().signal) => ({ signal, timeoutMs });

/** A channel to a server whose only method is `get`. */
async function start(get: handleServerStreamingCall<string, Buffer>) {
  const server = new Server();
  const definition = {
    path: METHOD.path,
    requestStream: false,
    responseStream: true,
    requestSerialize: (text: string) => Buffer.from(text),
    requestDeserialize: (bytes: Buffer) => String(bytes),
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  };
  server.addService({ get: definition }, { get });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const channel = await openGrpcChannel({ address: `127.0.0.1:${port}`, isPlain: true, headers: { 'x-test': 'yes' } });
  onTestFinished(() => {
    channel.close();
    server.forceShutdown();
  });
  return channel;
}

describe('a call of a channel', () => {
  it('a call resolves to all responses, and sends the headers', async () => {
    const channel = await start((call) => {
      for (const text of [call.request, String(call.metadata.get('x-test'))]) call.write(Buffer.from(text));
      call.end();
    });
    expect(await channel.call(METHOD, 'one', bounds())).toEqual(['one', 'yes']);
  });

  it('a call rejects with the status of the service and its details, also after a response', async () => {
    const channel = await start((call) => {
      call.write(Buffer.from('a'));
      call.emit('error', { code: status.ABORTED, details: 'because of another transaction' });
    });
    await expect(channel.call(METHOD, 'text', bounds())).rejects.toMatchObject({
      code: status.ABORTED,
      details: 'because of another transaction',
      message: '10 ABORTED: because of another transaction',
    });
  });

  it('a call rejects when a response cannot be decoded', async () => {
    const channel = await start((call) => {
      call.write(Buffer.from([0xff]));
      call.end();
    });
    await expect(channel.call(METHOD, 'text', bounds())).rejects.toMatchObject({ code: status.INTERNAL });
  });

  it('a call rejects at its deadline', async () => {
    const channel = await start(() => {});
    await expect(channel.call(METHOD, 'text', bounds(50))).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
  });

  it('a call is cancelled at the service when its signal aborts', async () => {
    const controller = new AbortController();
    const cancelled = Promise.withResolvers<void>();
    const channel = await start((call) => {
      call.on('cancelled', () => cancelled.resolve());
      controller.abort();
    });
    await expect(channel.call(METHOD, 'text', bounds(60_000, controller.signal))).rejects.toMatchObject({
      code: status.CANCELLED,
    });
    await cancelled.promise;
  });
});

/** A server that ends every connection, so that a channel to it connects again and again. */
async function startRefusing() {
  const counted = new EventEmitter();
  const refusing = { port: 0, count: 0, counted };
  const server = createServer((socket) => {
    socket.on('error', () => {}).destroy();
    counted.emit(String(++refusing.count));
  }).listen(0, 'localhost');
  await once(server, 'listening');
  refusing.port = (server.address() as AddressInfo).port;
  onTestFinished(() => void server.close());
  return refusing;
}

it('a channel without credentials connects no more', async () => {
  vi.stubEnv('GOOGLE_APPLICATION_CREDENTIALS', '/absent/credentials.json');
  const refusing = await startRefusing();
  for (let opened = 0; opened < 3; opened++) {
    const opening = openGrpcChannel({ address: `localhost:${refusing.port}`, isPlain: false, headers: {} });
    await expect(opening).rejects.toThrow('does not exist');
  }
  const other = await startRefusing();
  const fourth = once(other.counted, '4');
  const open = await openGrpcChannel({ address: `localhost:${other.port}`, isPlain: true, headers: {} });
  await fourth;
  open.close();
  expect(refusing.count).toBeLessThanOrEqual(3);
});
