// The console works in a real browser: conversations, keys, events and forms.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest';
import * as methods from '../../../shared/methods/index.ts';
import {
  launchBrowser,
  type OpenPage,
  openPage,
  REMOTE_HOST,
  takeScreenshot,
} from '../../support/fixtures/gateway/browser.ts';
import {
  type Fixture,
  lastAnswer,
  sendPrompt,
  signIn,
  startFixture,
  startRelay,
  useUp,
} from '../../support/fixtures/gateway/console.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const NAUGHTY = [
  '<img src=x onerror="window.pwned=1">',
  '<script>window.pwned=1;alert(1)</script>',
  'javascript:window.pwned=1',
  '{{constructor.constructor("window.pwned=1")()}}',
  '</textarea></p><svg onload="window.pwned=1">',
  '\u202eright to left\u202c \u{1f468}\u200d\u{1f469}\u200d\u{1f467} z\u0335\u0321a\u0328l\u0358g\u035co',
];

const DAY_MS = 86_400_000;
/** 64 x 48 pixels. */
const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetIAAAAR0lEQVR42u3PMQkAAAgAMBuZyEaGMKod/ITBCiyy+rUQEBAQEBAQEBAQEBAQEBAQELgFpl8TEBAQEBAQEBAQEBAQEBAQEDhZYBay0w8bSKcAAAAASUVORK5CYII=',
  'base64',
);

/** A script that pastes or drops an image, with these texts; its value is false if the page takes the image. */
function toTransfer(how: 'paste' | 'drop', target: string, texts: readonly string[] = []): string {
  return `(() => {
    const data = new DataTransfer();
    for (const type of ${JSON.stringify(texts)}) data.setData(type, 'text');
    const bytes = Uint8Array.from(atob('${PNG.toString('base64')}'), (character) => character.charCodeAt(0));
    data.items.add(new File([bytes], 'b.png', { type: 'image/png' }));
    const options = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
    const event = new ${how === 'paste' ? 'ClipboardEvent' : 'DragEvent'}('${how}', options);
    return document.querySelector('${target}').dispatchEvent(event);
  })()`;
}

/** A model that sends its second chunk when the test releases it. */
function createGate() {
  const opened = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  return {
    script: {
      chunks: ['The first half, ', 'the second half.'],
      gate: async (index: number) => opened[index - 1]?.promise,
    },
    release: () => opened.forEach(({ resolve }) => void resolve()),
  };
}

describeWith('chromium', 'the console', () => {
  let browser: Browser;
  let fixture: Fixture;
  let open: OpenPage;
  beforeAll(async () => {
    browser = await launchBrowser();
    fixture = await startFixture({ GATEWAY_LIMITS: '2000/minute,20000/hour,200000/day' });
  });
  afterAll(async () => {
    await browser?.close();
    await fixture?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    fixture.provider.behave();
    open = await openPage(browser, fixture.gateway.url);
  });
  afterEach(async () => {
    await open[Symbol.asyncDispose]();
    expect(open.faults).toEqual([]);
  });

  it('the console refuses a wrong key with a message and keeps a right one in this tab only', async () => {
    const { page } = open;
    await page.getByLabel('API key').fill('not-the-key');
    await page.getByLabel('API key').press('Enter');
    await page.getByRole('alert').getByText('the API key is not valid').waitFor();
    await takeScreenshot(page, 'sign-in');
    await page.getByLabel('API key').fill('dev-key');
    await page.getByLabel('API key').press('Enter');
    await page.getByText('live', { exact: true }).waitFor();
    const kept = await page.evaluate('[Object.values(sessionStorage), localStorage.length, document.cookie]');
    expect(kept).toEqual([['dev-key'], 0, '']);
    expect(page.url()).not.toContain('dev-key');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  });

  it('the console runs under a policy without inline code or styles', async () => {
    const page = await fetch(fixture.gateway.url, { headers: { accept: 'text/html' } });
    const policy = page.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/unsafe|\*/);
    const index = await fetch(fixture.gateway.url);
    expect(await index.json()).toMatchObject({ endpoints: ['/health', '/jsonrpc', '/webhook', '/ws'] });
  });

  it('the console sends a prompt that was entered before the session had loaded', async () => {
    const { page } = open;
    const [requested, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    await page.route('**/jsonrpc', async (route) => {
      if (route.request().postData()?.includes('"conversation.status"')) {
        requested.resolve();
        await gate.promise;
      }
      await route.continue();
    });
    await signIn(page);
    await requested.promise;
    await sendPrompt(page, '[[say in time]]');
    gate.resolve();
    await lastAnswer(page, 'done').waitFor();
    expect(await lastAnswer(page, 'done').textContent()).toContain('in time');
  });

  it('the console streams an answer while the model still writes it', async () => {
    const { page } = open;
    const { script, release } = createGate();
    fixture.provider.behave(() => script);
    await signIn(page);
    await sendPrompt(page, 'Tell me in two parts');
    await lastAnswer(page, 'running').getByText('The first half,').waitFor();
    await takeScreenshot(page, 'chat-streaming');
    release();
    await lastAnswer(page, 'done').getByText('The first half, the second half.', { exact: true }).waitFor();
    await page.locator('.session').getByText('2 messages').first().waitFor();
  });

  it.each(['button', 'Escape', 'Escape among the messages'])(
    'the Cancel of the console (%s) stops the model call, keeps what came and leaves the session usable',
    async (how) => {
      const { page } = open;
      await signIn(page);
      const requested = fixture.provider.next();
      await sendPrompt(page, 'Never stop [[hang]]');
      const { done } = await requested;
      await lastAnswer(page, 'running').getByText('You said').waitFor();
      if (how === 'button') await page.getByRole('button', { name: 'Cancel' }).click();
      else await page.getByLabel(how === 'Escape' ? 'Prompt' : 'Messages').press('Escape');
      expect(await done).toMatchObject({ by: 'client' });
      await lastAnswer(page, 'cancelled').getByText('You said: Never stop').waitFor();
      // Never lost: a reader of the messages keeps it there.
      await page.locator(how.endsWith('messages') ? '.messages:focus' : '#prompt:focus').waitFor();
      await sendPrompt(page, 'And now?');
      await lastAnswer(page, 'done').getByText('You said: And now?').waitFor();
    },
  );

  it('the console follows the turn that makes a session busy, so that it can be cancelled, and gives the prompt back', async () => {
    const { page } = open;
    await signIn(page);
    await page.getByText('A new session').waitFor();
    const session_id = decodeURIComponent(page.url().split('/chat/')[1] ?? '');
    const requested = fixture.provider.next();
    const elsewhere = fetch(`${fixture.gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        method: 'conversation.prompt',
        params: { session_id, prompt: 'From elsewhere [[hang]]' },
        id: 1,
      }),
    });
    const { done } = await requested;
    await sendPrompt(page, 'Me too');
    await page.getByRole('alert').getByText('session_busy').waitFor();
    await lastAnswer(page, 'running').getByText('You said: From elsewhere').waitFor();
    expect(await page.locator('.message').count()).toBe(2);
    expect(await page.getByLabel('Prompt').inputValue()).toBe('Me too');
    await page.getByRole('button', { name: 'Cancel' }).click();
    expect(await done).toMatchObject({ by: 'client' });
    await elsewhere;
    await lastAnswer(page, 'cancelled').waitFor();
    await page.getByRole('alert').waitFor({ state: 'detached' });
    await page.getByLabel('Prompt').press('Enter');
    await lastAnswer(page, 'done').getByText('You said: Me too').waitFor();
  });

  it('the console tries a failed prompt again with the options as they are now', async () => {
    const { page } = open;
    await signIn(page);
    await page.getByText('Options').click();
    await expect.poll(() => page.locator('#models option').first().getAttribute('value')).toBe('openai/fake');
    await page.getByLabel('Model').fill('no-such/model');
    await sendPrompt(page, 'Which model?');
    await lastAnswer(page, 'failed').getByText('invalid_params').waitFor();
    await page.getByLabel('Model').fill('');
    await page.getByRole('button', { name: 'Try again' }).click();
    await lastAnswer(page, 'done').getByText('You said: Which model?').waitFor();
    expect(await page.locator('.message').count()).toBe(2);
  });

  it('the console replaces the stored prompt of a failed turn when it is tried again', async () => {
    const { page } = open;
    await signIn(page);
    await sendPrompt(page, 'Before');
    await lastAnswer(page, 'done').getByText('You said: Before').waitFor();
    fixture.provider.behave(() => ({ status: 400 }));
    await sendPrompt(page, 'Once only');
    await lastAnswer(page, 'failed').getByText('upstream_error').waitFor();
    fixture.provider.behave();
    await page.getByRole('button', { name: 'Try again' }).click();
    await lastAnswer(page, 'done').getByText('You said: Once only').waitFor();
    await page.reload();
    await lastAnswer(page, 'done').getByText('You said: Once only').waitFor();
    expect(await page.locator('.message').count()).toBe(4);
  });

  it('the console finds the conversation again after a reload, also in the middle of a turn', async () => {
    const { page } = open;
    await signIn(page);
    await sendPrompt(page, 'Remember me');
    await lastAnswer(page, 'done').getByText('You said: Remember me').waitFor();
    const { script, release } = createGate();
    fixture.provider.behave(() => script);
    const before = fixture.provider.calls;
    await sendPrompt(page, 'Go on');
    await lastAnswer(page, 'running').getByText('The first half,').waitFor();
    await page.reload();
    await page.getByText('You said: Remember me').waitFor();
    await lastAnswer(page, 'running').getByText('The first half,').waitFor();
    release();
    await lastAnswer(page, 'done').getByText('The first half, the second half.', { exact: true }).waitFor();
    expect(fixture.provider.calls - before).toBe(1);
    expect(await page.locator('.message').count()).toBe(4);
  });

  it('the console shows a deployment event as soon as it is delivered, and what runs where', async () => {
    const { page } = open;
    await signIn(page);
    await page.getByRole('link', { name: 'Events' }).click();
    await page.locator('.tag.live').waitFor();
    const data = { service: 'checkout', version: '1.2.3', region: 'europe-west1', status: 'healthy' };
    const delivered = await fetch(`${fixture.gateway.url}/webhook`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key', 'content-type': 'application/json' },
      body: JSON.stringify({ event: 'deployment.success', timestamp: new Date().toISOString(), data }),
    });
    expect(delivered.status).toBe(200);
    await page.locator('.card.fresh summary').getByText('checkout').waitFor();
    await page.getByRole('row', { name: 'checkout europe-west1 1.2.3 healthy' }).waitFor();
    await page.getByRole('button', { name: 'Send a test deployment event' }).click();
    await page.locator('.card.fresh summary').getByText('console-test').waitFor();
    await takeScreenshot(page, 'events');
  });

  it('the console shows what people, models and senders write as text, never as markup', async () => {
    const { page } = open;
    const prompt = NAUGHTY.join('\n');
    const data = { service: NAUGHTY[0], region: NAUGHTY[1], version: NAUGHTY[4], status: NAUGHTY[2] };
    const dialogs: string[] = [];
    page.on('dialog', async (dialog) => {
      dialogs.push(dialog.message());
      await dialog.dismiss();
    });
    await signIn(page);
    await sendPrompt(page, prompt);
    await lastAnswer(page, 'done').waitFor();
    expect(await page.locator('.message.user .text').textContent()).toBe(prompt);
    expect(await lastAnswer(page, 'done').locator('.text').textContent()).toBe(`You said: ${prompt}`);
    // The same from the history.
    await page.reload();
    await lastAnswer(page, 'done').waitFor();
    expect(await page.locator('.message .text').allTextContents()).toEqual([prompt, `You said: ${prompt}`]);
    await fetch(`${fixture.gateway.url}/webhook`, {
      method: 'POST',
      headers: { 'x-api-key': 'dev-key', 'content-type': 'application/json' },
      body: JSON.stringify({ event: 'deployment.success', data }),
    });
    await page.getByRole('link', { name: 'Events' }).click();
    await page
      .locator('td')
      .getByText(NAUGHTY[4] ?? '', { exact: true })
      .waitFor();
    const found = await page.evaluate(
      "['pwned' in window, document.querySelectorAll('#app img, #app script, #app svg').length]",
    );
    expect([found, dialogs]).toEqual([[false, 0], []]);
  });

  it('the console makes a form of every method, with the same call for a shell', async () => {
    const { page } = open;
    await signIn(page);
    await page.getByRole('link', { name: 'Methods' }).click();
    for (const { name, params } of Object.values(methods)) {
      await page.locator('.sessions').getByRole('link', { name, exact: true }).click();
      await page.getByRole('heading', { name, exact: true }).waitFor();
      const count = await page.locator('.method .field').count();
      expect(count, name).toBe(Object.keys(params.shape).length);
    }
    await page.locator('.sessions').getByRole('link', { name: 'conversation.status' }).click();
    await page.getByLabel('session_id').fill("it's new");
    await page.getByRole('button', { name: 'Call', exact: true }).click();
    await page.getByLabel('Result').getByText('"status": "not_found"').waitFor();
    const curl = await page.getByLabel('The same call with curl').textContent();
    expect(curl).toContain(`${fixture.gateway.url}/jsonrpc`);
    expect(curl).toContain(`"params":{"session_id":"it'\\''s new"}`);
    expect(curl).toContain('"X-API-Key: $GATEWAY_KEY"');
    expect(curl).not.toMatch(/dev-key|event-stream/);
    await page.getByRole('button', { name: 'Edit as JSON' }).click();
    await page.getByLabel('Params').fill('{"session_id": 5}');
    await page.getByRole('button', { name: 'Call', exact: true }).click();
    await page.getByRole('alert').getByText('invalid_params').waitFor();
    expect(await page.getByRole('alert').getByText('session_id must be a string').count()).toBe(1);
    await takeScreenshot(page, 'methods');
  });

  it('a failure shows its cause: the key, the deployment, the model or another service', async () => {
    const keys = [{ id: 'narrow', key: 'narrow-key-of-twenty-letters', scopes: ['conversation', 'proxy', 'mcp'] }];
    await using narrow = await startFixture({
      GATEWAY_KEYS: JSON.stringify({ keys }),
      MCP_SERVERS: '{"gone": {"url": "http://127.0.0.1:9/mcp"}}',
    });
    await using own = await openPage(browser, narrow.gateway.url);
    const { page } = own;
    await page.getByLabel('API key').fill('narrow-key-of-twenty-letters');
    await page.getByLabel('API key').press('Enter');
    await page.getByText('live', { exact: true }).waitFor();
    for (const [method, params, expected] of [
      ['exec', { command: 'true' }, /lacks the scope "workspace".*forbidden.*Another key may be allowed/],
      ['bff.proxy', { endpoint: '/', method: 'GET' }, /BFF_BASE_URL.*forbidden.*No key is allowed to do this here/],
      ['conversation.prompt', { prompt: '[[cut]]' }, /upstream_error.*model’s provider/],
      [
        'mcp.connect',
        { server_config: { name: 'gone' } },
        /MCP server "gone": the backend could not be reached upstream_error(?!.*model)/,
      ],
    ] as const) {
      await page.evaluate(`location.hash = '#/methods/${method}'`);
      await page.getByRole('heading', { name: method, exact: true }).waitFor();
      await page.getByRole('button', { name: 'Edit as JSON' }).click();
      await page.getByLabel('Params').fill(JSON.stringify(params));
      await page.getByRole('button', { name: 'Call', exact: true }).click();
      const alert = page.getByRole('alert');
      await alert.waitFor();
      expect(await alert.textContent()).toMatch(expected);
    }
  });

  it.each(['WebSocket', 'HTTP'])(
    'the console shows the events of a subscription until it is stopped, over %s',
    async (how) => {
      await using relay = await startRelay({ sockets: how === 'WebSocket' });
      await using own = await startFixture({ GATEWAY_LIMITS: '2000/minute', ALLOWED_ORIGINS: relay.url });
      relay.to(own.gateway.url);
      await using subscriber = await openPage(browser, relay.url);
      const { page } = subscriber;
      const deliver = (event: string) =>
        fetch(`${own.gateway.url}/webhook`, {
          method: 'POST',
          headers: { 'x-api-key': 'dev-key', 'content-type': 'application/json' },
          body: JSON.stringify({ event, data: {} }),
        });
      await page.getByRole('button', { name: 'use dev-key' }).click();
      await page.getByText(how === 'WebSocket' ? 'live' : 'HTTP only', { exact: true }).waitFor();
      await page.evaluate("location.hash = '#/methods/events.subscribe'");
      expect(await page.getByLabel('The same call with curl').textContent()).toMatch(
        /^curl -sSN [\s\S]*-H 'Accept: text\/event-stream'/,
      );
      const call = page.getByRole('button', { name: 'Call', exact: true });
      await call.click();
      const events = page.getByLabel('Events', { exact: true });
      await events.getByText('events.subscribed').waitFor();
      await deliver('first.event');
      await events.getByText('first.event').waitFor();
      await deliver('second.event');
      await events.getByText('second.event').waitFor();
      await page.getByRole('button', { name: 'Stop waiting' }).click();
      await call.waitFor();
      expect(await page.getByRole('alert').count()).toBe(0);
      // The subscription has ended: the connection may open as many again as it may have.
      for (let round = 0; round < 8; round++) {
        await call.click();
        await events.getByText('events.subscribed').waitFor();
        await page.getByRole('button', { name: 'Stop waiting' }).click();
        await call.waitFor();
      }
      expect(await page.getByRole('alert').count()).toBe(0);
    },
  );

  it('the console attaches images by button, paste and drop, sends them, and shows them in the history', async () => {
    const { page } = open;
    await signIn(page);
    const draft = page.locator('.composer').getByLabel('Images', { exact: true });
    // The form takes the focus once.
    await page.locator('#prompt:focus').waitFor();
    const opened = page.waitForEvent('filechooser');
    // The browser replaces its dialog by the event before it answers this.
    await page.evaluate('0');
    await page.getByRole('button', { name: 'Attach image' }).press('Enter');
    const chooser = await opened;
    await chooser.setFiles({ name: 'a.png', mimeType: 'image/png', buffer: PNG });
    await draft.getByRole('img').waitFor();
    for (const how of ['paste', 'drop'] as const) {
      // A file that is dropped beside the form is attached too.
      expect(await page.evaluate(toTransfer(how, how === 'paste' ? '#prompt' : 'nav'))).toBe(false);
      await draft
        .getByRole('img')
        .nth(how === 'paste' ? 1 : 2)
        .waitFor();
    }
    await page.getByRole('button', { name: 'Remove image 3' }).press('Enter');
    expect(await draft.getByRole('img').count()).toBe(2);
    expect(await page.evaluate('document.activeElement.id')).toBe('prompt');
    await takeScreenshot(page, 'chat-images');
    await sendPrompt(page, 'What is in them?');
    await lastAnswer(page, 'done').waitFor();
    expect(await draft.count()).toBe(0);
    const body = JSON.stringify(fixture.provider.requests.at(-1)?.body);
    expect(body.split(PNG.toString('base64'))).toHaveLength(3);
    expect(body).toContain('What is in them?');
    await page.reload();
    const shown = page.locator('.message.user').getByRole('img');
    await shown.nth(1).waitFor();
    expect(await shown.evaluateAll((images) => images.map((image) => Reflect.get(image, 'naturalWidth')))).toEqual([
      64, 64,
    ]);
    await takeScreenshot(page, 'chat-images-history');
  });

  it('the console sends a prompt with all images that are pasted just before Enter, and pastes cells of a table as text', async () => {
    const { page } = open;
    await signIn(page);
    await page.getByLabel('Prompt').fill('Which of both?');
    const paste = toTransfer('paste', '#prompt');
    const enter = `new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true })`;
    await page.evaluate(`${paste}; ${paste}; document.querySelector('#prompt').dispatchEvent(${enter})`);
    await lastAnswer(page, 'done').waitFor();
    const body = JSON.stringify(fixture.provider.requests.at(-1)?.body);
    expect(body.split(PNG.toString('base64'))).toHaveLength(3);
    expect(await page.evaluate(toTransfer('paste', '#prompt', ['text/plain', 'text/html']))).toBe(true);
    expect(await page.locator('.composer').getByRole('img').count()).toBe(0);
  });

  it('the console names a file that cannot be read, and the seventeenth image', async () => {
    const { page } = open;
    await signIn(page);
    const field = page.getByLabel('Image files');
    const problem = page.locator('.composer').getByRole('alert');
    // As of a directory, or of a file that was removed after it was chosen.
    await page.evaluate(`{
      const { readAsDataURL } = FileReader.prototype;
      FileReader.prototype.readAsDataURL = function () {
        FileReader.prototype.readAsDataURL = readAsDataURL;
        this.dispatchEvent(new ProgressEvent('error'));
      };
    }`);
    await field.setInputFiles({ name: 'a.png', mimeType: 'image/png', buffer: PNG });
    await problem.getByText('a.png cannot be read.').waitFor();
    const images = Array.from({ length: 17 }, (_, index) => {
      return { name: `${index + 1}.png`, mimeType: 'image/png', buffer: PNG };
    });
    await field.setInputFiles(images);
    await problem.getByText('17.png is not attached: a prompt may have 16 images.').waitFor();
    expect(await page.locator('.composer').getByRole('img').count()).toBe(16);
  });

  it('the console refuses files that are no images or too large, and images to a model that takes none', async () => {
    const { page } = open;
    await signIn(page);
    const field = page.getByLabel('Image files');
    const problem = page.locator('.composer').getByRole('alert');
    await field.setInputFiles([
      { name: 'a.txt', mimeType: 'text/plain', buffer: PNG },
      { name: 'b.png', mimeType: 'image/png', buffer: Buffer.concat([PNG, Buffer.alloc(700_000)]) },
      { name: 'c.png', mimeType: 'image/png', buffer: PNG },
    ]);
    await problem.getByText('a.txt is no PNG').waitFor();
    expect(await problem.textContent()).toContain('b.png is too large: the images of a prompt may have 675 KB.');
    await page.getByRole('button', { name: 'Remove image', exact: true }).click();
    await page.locator('summary', { hasText: 'Options' }).click();
    await page.getByLabel('Model').fill('offline/echo');
    await field.setInputFiles([{ name: 'c.png', mimeType: 'image/png', buffer: PNG }]);
    await problem.getByText('offline/echo takes no images').waitFor();
    expect(await page.locator('.composer').getByRole('img').count()).toBe(0);
  });

  it('the console erases a session after a confirmation', async () => {
    const { page } = open;
    await signIn(page);
    await sendPrompt(page, 'Forget me');
    const name = decodeURIComponent(page.url().split('/chat/')[1] ?? '');
    const row = page.locator('.session', { hasText: name });
    await row.getByRole('button', { name: 'Erase' }).click();
    await row.getByRole('button', { name: 'Really erase' }).click();
    await row.waitFor({ state: 'detached' });
    await page.getByText('A new session').waitFor();
  });

  it('the console signs in again without the user after a reload while the gateway was down', async () => {
    const { page } = open;
    await signIn(page);
    await sendPrompt(page, 'Keep me');
    await lastAnswer(page, 'done').waitFor();
    // The page is there, its calls are not.
    await page.route('**/jsonrpc', (route) => route.abort('connectionrefused'));
    await page.reload();
    await page.getByRole('alert').getByText('The gateway cannot be reached').waitFor();
    await page.getByText(/Trying again in \d+ s/).waitFor();
    expect(await page.getByLabel('API key').count()).toBe(0);
    await takeScreenshot(page, 'kept-key');
    await page.unroute('**/jsonrpc');
    await lastAnswer(page, 'done').getByText('You said: Keep me').waitFor();
  });

  it('the console keeps the key over a reload while it is rate limited, and shows the remaining time', async () => {
    // It is noon at the gateway.
    let aheadMs = DAY_MS / 2 - (Date.now() % DAY_MS);
    const clock = { now: () => Date.now() + aheadMs, monotonic: () => performance.now() };
    await using tight = await startFixture({ GATEWAY_LIMITS: '12/day' }, { clock });
    await using own = await openPage(browser, tight.gateway.url);
    const { page } = own;
    await signIn(page);
    await useUp(tight.gateway.url);
    await page.reload();
    await page.getByRole('alert').getByText('rate_limited').waitFor();
    await page.getByText('Rate limited: this key may call again in 12 h').waitFor();
    expect(await page.getByLabel('API key').count()).toBe(0);
    aheadMs += DAY_MS;
    await page.reload();
    await page.getByText('live', { exact: true }).waitFor();
  });

  it('the console resumes the running turn after a cut, asking the model once and showing nothing twice', async () => {
    await using relay = await startRelay();
    await using cut = await startFixture({ ALLOWED_ORIGINS: relay.url });
    relay.to(cut.gateway.url);
    const { script, release } = createGate();
    cut.provider.behave(() => script);
    await using own = await openPage(browser, relay.url);
    const { page } = own;
    await signIn(page);
    await sendPrompt(page, 'Survive this');
    await lastAnswer(page, 'running').getByText('The first half,').waitFor();
    relay.shut();
    await page.getByText('The connection was cut').waitFor();
    await takeScreenshot(page, 'reconnecting');
    await page.getByRole('button', { name: 'Now' }).click();
    release();
    relay.open();
    await lastAnswer(page, 'done').getByText('The first half, the second half.', { exact: true }).waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    expect(cut.provider.calls).toBe(1);
    expect(await page.locator('.message').count()).toBe(2);
  });

  it('the console keeps the text of a turn whose gateway was killed, and offers to try again', async () => {
    await using relay = await startRelay();
    const data = mkdtempSync(join(tmpdir(), 'console-'));
    const env = {
      ALLOWED_ORIGINS: relay.url,
      GATEWAY_DATA_DIR: data,
      GATEWAY_LEASE_MS: '1000',
      GATEWAY_HEARTBEAT_MS: '300',
      MODEL: 'openai/fake',
      OPENAI_API_KEY: 'sk-fake',
      OPENAI_BASE_URL: `${fixture.provider.url}/v1`,
    };
    const start = async (): Promise<LocalGateway> => {
      const gateway = await startLocalGateway({ env });
      onTestFinished(async () => void (await gateway.stop()));
      return gateway;
    };
    onTestFinished(() => rmSync(data, { recursive: true }));
    const killed = await start();
    relay.to(killed.url);
    await using own = await openPage(browser, relay.url);
    const { page } = own;
    await signIn(page);
    await sendPrompt(page, 'Outlive it [[hang]]');
    await lastAnswer(page, 'running').getByText('You said: Outlive it').waitFor();
    killed.child.kill('SIGKILL');
    await page.getByText('The connection was cut').waitFor();
    relay.to((await start()).url);
    await lastAnswer(page, 'failed').getByText('You said: Outlive it').waitFor();
    fixture.provider.behave(() => ({ text: 'At last.' }));
    await lastAnswer(page, 'failed').getByRole('button', { name: 'Try again' }).click();
    await lastAnswer(page, 'done').getByText('At last.').waitFor();
  });

  it('the console chats and shows events where no WebSocket can be opened', async () => {
    await using relay = await startRelay({ sockets: false });
    await using closed = await startFixture({ GATEWAY_LIMITS: '2000/minute', ALLOWED_ORIGINS: relay.url });
    relay.to(closed.gateway.url);
    await using own = await openPage(browser, relay.url);
    const { page } = own;
    const { script, release } = createGate();
    closed.provider.behave(() => script);
    await page.getByRole('button', { name: 'use dev-key' }).click();
    await page.getByText('HTTP only').waitFor();
    await sendPrompt(page, 'Without a socket');
    await lastAnswer(page, 'running').getByText('The first half,').waitFor();
    release();
    await lastAnswer(page, 'done').getByText('The first half, the second half.', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Events' }).click();
    await page.locator('.tag.polling').waitFor();
    await page.getByRole('button', { name: 'Send a test deployment event' }).click();
    await page.locator('.card.fresh summary').getByText('console-test').waitFor();
    await page.getByRole('link', { name: 'Terminal' }).click();
    await page.getByText('A terminal needs the WebSocket').waitFor();
  });

  it('the console works over plain http from another host, where browsers give a page less', async () => {
    // Only a gateway that does not listen on loopback alone takes requests for another host.
    await using remote = await startFixture({ HOST: '0.0.0.0', GATEWAY_API_KEY: 'remote-key' });
    await using own = await openPage(browser, remote.gateway.url.replace('127.0.0.1', REMOTE_HOST));
    const { page } = own;
    expect(await page.evaluate('isSecureContext')).toBe(false);
    await page.getByLabel('API key').fill('remote-key');
    await page.getByLabel('API key').press('Enter');
    // The gateway’s own origin, which may open a WebSocket unasked, is on loopback only.
    await page.getByText('HTTP only').waitFor();
    await sendPrompt(page, 'From the sofa');
    await lastAnswer(page, 'done').getByText('You said: From the sofa').waitFor();
    await page.getByRole('link', { name: 'Events' }).click();
    await page.getByRole('button', { name: 'Send a test deployment event' }).click();
    await page.locator('.card.fresh summary').getByText('console-test').first().waitFor();
    await page.getByRole('link', { name: 'Methods' }).click();
    await page.locator('.sessions').getByRole('link', { name: 'auth.limits' }).click();
    await page.getByRole('button', { name: 'Select' }).click();
    const line = await page.getByLabel('The same call with curl').textContent();
    expect(await page.evaluate('String(getSelection())')).toBe(line);
    expect(own.faults).toEqual([]);
  });

  it('the console shows the three windows of the key, and counts down when they are used up', async () => {
    await using tight = await startFixture({ GATEWAY_LIMITS: '5000/minute,6000/hour,12/day' });
    await using own = await openPage(browser, tight.gateway.url);
    const { page } = own;
    await signIn(page);
    await page.getByRole('meter', { name: 'Calls left this minute' }).waitFor();
    await page.getByRole('meter', { name: 'Calls left this hour' }).waitFor();
    const day = page.getByRole('meter', { name: 'Calls left this day' });
    const leftOf = async (): Promise<number> => Number(await day.getAttribute('aria-valuenow'));
    expect(await leftOf()).toBeLessThan(12);
    await useUp(tight.gateway.url);
    await sendPrompt(page, 'One too many');
    await page.getByRole('alert').getByRole('button', { name: 'Try again' }).waitFor();
    await page.getByText(/Rate limited: this key may call again in \d+/).waitFor();
    expect(await page.getByRole('button', { name: /^Wait \d+/ }).isDisabled()).toBe(true);
    await takeScreenshot(page, 'rate-limited');
  });
});
