// The baseline of the relay bench: `node:http` alone, which sends a request on and pipes the answer back.
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

const target = process.argv[2] ?? '';
const agent = new Agent({ keepAlive: true, maxSockets: 1_000 });

const server = createServer((req, res) => {
  const { method, headers } = req;
  const outgoing = request(target, { agent, method, headers }, (answer) => {
    res.writeHead(answer.statusCode ?? 200, answer.headers);
    answer.pipe(res);
  });
  req.pipe(outgoing);
});
if (process.argv[1] === import.meta.filename) {
  server.listen(0, '127.0.0.1', () => {
    process.stdout.write(`relay ready at http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
  });
}
