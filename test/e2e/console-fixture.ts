// What the console's suites share: the local gateway with a fake model behind it, a browser, and the steps everybody takes first.
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Page } from 'playwright-core';
import type { Services } from '../../shared/services.ts';
import { createBubblewrapSandbox } from '../../shared/workspace/bubblewrap.ts';
import { type ModelProvider, startModelProvider } from '../fakes/model-provider.ts';
import { type InProcessGateway, startInProcess } from '../support/in-process.ts';

export interface Scene extends AsyncDisposable {
  readonly gateway: InProcessGateway;
  readonly provider: ModelProvider;
}

/** A gateway in this process whose default model is the fake provider's. */
export async function startScene(
  env: Readonly<Record<string, string>> = {},
  overrides: Partial<Services> = {},
): Promise<Scene> {
  const provider = await startModelProvider();
  const settings = {
    MODEL: 'openai/fake',
    OPENAI_API_KEY: 'sk-fake',
    OPENAI_BASE_URL: `${provider.url}/v1`,
    PATH: process.env.PATH,
    ...env,
  };
  const gateway = await startInProcess(settings, overrides);
  return {
    gateway,
    provider,
    async [Symbol.asyncDispose]() {
      await gateway.close();
      await provider.close();
    },
  };
}

/** As on a machine where bubblewrap is not to be found. */
export const withoutSandbox = (): Partial<Services> => ({
  sandbox: createBubblewrapSandbox({ directory: '/nowhere', path: '/nowhere', bundled: false }),
});

/** With the development key, until the page is live. */
export async function signIn(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'use dev-key' }).click();
  await page.getByText('live', { exact: true }).waitFor();
}

export async function say(page: Page, prompt: string): Promise<void> {
  await page.getByLabel('Prompt').fill(prompt);
  await page.getByLabel('Prompt').press('Enter');
}

export function lastAnswer(page: Page, state: string) {
  return page.locator(`.message.assistant[data-state=${state}]`).last();
}

/** A door in front of the gateway that can be slammed: every connection through it is cut, and none is let in until it opens again. */
export interface Door extends AsyncDisposable {
  readonly url: string;
  to(target: string): void;
  shut(): void;
  open(): void;
}

export async function startDoor(): Promise<Door> {
  const sockets = new Set<Socket>();
  let isOpen = true;
  let port = 0;
  const server = createServer((client) => {
    if (!isOpen) return void client.destroy();
    const upstream = connect(port, '127.0.0.1');
    for (const [socket, peer] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        peer.destroy();
      });
      socket.pipe(peer);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    to(target) {
      port = Number(new URL(target).port);
    },
    shut() {
      isOpen = false;
      for (const socket of sockets) socket.destroy();
    },
    open() {
      isOpen = true;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
