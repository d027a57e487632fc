// A function connects to its companion within a bounded time.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { openCompanionService } from '../../../shared/forward/companion-service.ts';
import { listen } from '../../support/fixtures/gateway/forward.ts';

it('a connection that is not established in time is an error', async () => {
  const sockets: Socket[] = [];
  // Accepts, and never answers the TLS handshake.
  const server = createServer((socket) => sockets.push(socket.on('error', () => {}))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const service = openCompanionService(`https://127.0.0.1:${(server.address() as AddressInfo).port}`, 50);
  const answer = service.post('/exchange', {}, Buffer.from('{}'), new AbortController().signal);
  await expect(answer).rejects.toThrow('no connection to the companion in time');
  for (const socket of sockets) socket.destroy();
  server.close();
});

it('the time to connect does not limit the answer, on a new connection and on a kept one', async () => {
  const slow = await listen((req, res) => {
    req.resume();
    setTimeout(() => res.end('{}'), 600);
  });
  const service = openCompanionService(slow.url, 500);
  for (let n = 0; n < 2; n++) {
    const response = await service.post('/exchange', {}, Buffer.from('{}'), new AbortController().signal);
    expect(response.statusCode).toBe(200);
    await once(response.resume(), 'end');
  }
  slow.close();
});
