// The fake provider works as a process of its own, driven by prompts alone, as the fault tests use it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, it } from 'vitest';

let child: ChildProcess;
let url: string;

beforeAll(async () => {
  const main = new URL('../../support/fakes/model-provider/model-provider-main.ts', import.meta.url).pathname;
  child = spawn(process.execPath, [main], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('no stdout');
  const [line] = await once(createInterface(child.stdout), 'line');
  url = String(line).replace('model provider ready at ', '');
});
afterAll(async () => {
  const exit = once(child, 'exit');
  child.kill();
  await exit;
});

function post(content: string, signal?: AbortSignal): Promise<Response> {
  const body = JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content }] });
  return fetch(`${url}/v1/messages`, { method: 'POST', body, ...(signal === undefined ? {} : { signal }) });
}

/** The last request that the fake provider has recorded. */
async function last(): Promise<unknown> {
  const report: unknown = await (await fetch(`${url}/__requests`)).json();
  const list: unknown = typeof report === 'object' && report !== null ? Reflect.get(report, 'requests') : undefined;
  return Array.isArray(list) ? list.at(-1) : undefined;
}

it('the fake provider answers as the commands in a prompt define', async () => {
  expect(await (await post('hi [[say hello there]]')).text()).toContain('hello there');
  const failures = [
    await post('[[status 429 retry-after 1 times 1]]'),
    await post('[[status 429 retry-after 1 times 1]]'),
  ];
  expect(failures.map(({ status }) => status)).toEqual([429, 200]);
  expect(failures[0]?.headers.get('retry-after')).toBe('1');
  await expect(post('[[chunks 4]] [[cut]]').then((response) => response.text())).rejects.toThrow();
});

it('the fake provider reports over HTTP that a client has disconnected', async () => {
  const controller = new AbortController();
  const response = await post('[[hang]] from elsewhere', controller.signal);
  await response.body?.getReader().read();
  expect(await last()).toMatchObject({ prompt: '[[hang]] from elsewhere', ended: null });
  controller.abort();
  await expect.poll(last).toMatchObject({ ended: { by: 'client' } });
});
