// The JSON-RPC cases of every transport pass over WebSocket.
import { once } from 'node:events';
import WebSocket from 'ws';
import { type Answer, CASE_KEYS, jsonRpcCases, type Transport } from '../../cases/jsonrpc.cases.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const CONNECTIONS_MAX = 8;

jsonRpcCases('WebSocket', async () => {
  const gateway = await startInProcess({ GATEWAY_KEYS: CASE_KEYS });
  const pools = new Map<string, ReturnType<typeof createPool>>();
  const transport: Transport = {
    isText: true,
    async call(body, key = 'wide') {
      const pool = pools.get(key) ?? createPool(() => open(gateway, key));
      pools.set(key, pool);
      const socket = await pool.take();
      try {
        return await request(gateway, socket, body);
      } finally {
        pool.give(socket);
      }
    },
    close: gateway.close,
  };
  return transport;
});

async function open(gateway: InProcessGateway, key: string): Promise<WebSocket> {
  const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/ws`, { headers: { 'X-API-Key': key } });
  await once(socket, 'open');
  return socket;
}

/** Each connection has one request at a time, so that what comes is the answer to it. */
async function request(gateway: InProcessGateway, socket: WebSocket, body: string | Uint8Array): Promise<Answer> {
  const audited = countCalls(gateway);
  const answered = new Promise<Answer>((resolve) => {
    const onMessage = (data: WebSocket.RawData): void => {
      const payload: unknown = JSON.parse(String(data));
      if (typeof payload === 'object' && payload !== null && 'method' in payload) return;
      socket.off('message', onMessage).off('close', onClose);
      resolve({ payload });
    };
    const onClose = (closed: number): void => resolve({ payload: { closed } });
    socket.on('message', onMessage).once('close', onClose);
  });
  socket.send(body, { binary: false });
  const silent = notifications(body);
  if (silent === 0) return answered;
  // A notification has been taken when all its calls are in the audit log; an answer to it would come at that moment.
  while (countCalls(gateway) < audited + silent) await new Promise((resolve) => setImmediate(resolve));
  const nothing = once(socket, 'pong').then((): Answer => ({ payload: undefined }));
  socket.ping();
  return Promise.race([answered, nothing]);
}

/** Number of calls in a request of notifications only; 0 for every other request. */
function notifications(body: string | Uint8Array): number {
  try {
    const value: unknown = JSON.parse(String(body));
    const calls = Array.isArray(value) ? value : [value];
    const silent = calls.every(
      (call) => typeof call === 'object' && call !== null && 'method' in call && !('id' in call),
    );
    return silent ? calls.length : 0;
  } catch {
    return 0;
  }
}

function countCalls(gateway: InProcessGateway): number {
  return gateway.logged().split('"message":"call"').length - 1;
}

function createPool(make: () => Promise<WebSocket>) {
  const free: WebSocket[] = [];
  const waiting: ((socket: WebSocket) => void)[] = [];
  let made = 0;
  return {
    async take(): Promise<WebSocket> {
      const socket = free.pop();
      if (socket !== undefined) return socket;
      if (made < CONNECTIONS_MAX) {
        made++;
        return make();
      }
      return new Promise((resolve) => waiting.push(resolve));
    },
    give(socket: WebSocket): void {
      if (socket.readyState !== WebSocket.OPEN) {
        made--;
        return;
      }
      const next = waiting.shift();
      if (next === undefined) free.push(socket);
      else next(socket);
    },
  };
}
