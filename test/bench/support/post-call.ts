// Sends one call over HTTP by a client that keeps its connection.
import { type Agent, request } from 'node:http';

/** Rejects without a result. */
export function postCall(agent: Agent, url: string, key: string, method: string, params: object): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'x-api-key': key };
    const req = request(`${url}/jsonrpc`, { agent, method: 'POST', headers }, (res) => {
      let text = '';
      res.on('data', (bytes) => {
        text += bytes;
      });
      res.on('end', () => (text.includes('"result"') ? resolve() : reject(new Error(text))));
    });
    req.on('error', reject);
    req.end(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }));
  });
}
