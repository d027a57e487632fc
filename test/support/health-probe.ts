// A thread that asks `/health` again and again, so that what it measures is the server and not the busy thread that
// loads it. Sends how long each answer took once it is sent anything.
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';

const tookMs: number[] = [];
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
let isOver = false;
parentPort?.once('message', () => {
  isOver = true;
});
while (!isOver) {
  const startMs = performance.now();
  const sent = request(String(workerData), { agent }).end();
  const [response] = await once(sent, 'response');
  response.resume();
  await once(response, 'end');
  tookMs.push(performance.now() - startMs);
  await sleep(5);
}
agent.destroy();
parentPort?.postMessage(tookMs.sort((a, b) => a - b));
