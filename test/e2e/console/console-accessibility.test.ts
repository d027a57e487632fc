// The console is accessible: axe-core finds no serious fault on any page, light and dark, wide and on a phone, and the
// keyboard reaches everything.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { launchBrowser, openPage, takeScreenshot } from '../../support/fixtures/gateway/browser.ts';
import {
  type Fixture,
  lastAnswer,
  sendPrompt,
  signIn,
  startFixture,
  withoutSandbox,
} from '../../support/fixtures/gateway/console.ts';
import { describeWith } from '../../support/requirements.ts';

const Findings = z.array(
  z.object({
    id: z.string(),
    impact: z.string().nullable(),
    nodes: z.array(z.object({ html: z.string(), failureSummary: z.string() })),
  }),
);
const WIDE = { width: 1200, height: 800 };
const PHONE = { width: 375, height: 720 };

describeWith('chromium', 'the console is usable', () => {
  let browser: Browser;
  let fixture: Fixture;
  let axe: string;
  beforeAll(async () => {
    browser = await launchBrowser();
    fixture = await startFixture({ GATEWAY_LIMITS: '2000/minute,6000/hour,20000/day' }, withoutSandbox());
    axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  });
  afterAll(async () => {
    await browser?.close();
    await fixture?.[Symbol.asyncDispose]();
  });

  /** Serious and critical findings, readable in a failure. */
  async function findingsOf(page: Page): Promise<string[]> {
    const found = Findings.parse(await page.evaluate('axe.run(document).then(({ violations }) => violations)'));
    return found
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(
        ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`,
      );
  }

  describe.each([
    ['light', WIDE],
    ['dark', PHONE],
  ] as const)('%s at %o', (colorScheme, viewport) => {
    const suffix = `${colorScheme}-${viewport.width}`;

    it('no page has a fault that axe finds', async () => {
      await using open = await openPage(browser, fixture.gateway.url, { colorScheme, viewport });
      const { page } = open;
      await page.evaluate(axe);
      expect(await findingsOf(page), 'sign-in').toEqual([]);
      await signIn(page);
      await sendPrompt(page, 'A table of primes\n```js\nconst primes = [2, 3, 5, 7];\n```\nplease');
      await lastAnswer(page, 'done').waitFor();
      await page.locator('.session').first().waitFor({ state: 'attached' });
      await takeScreenshot(page, `chat-${suffix}`);
      expect(await findingsOf(page), 'chat').toEqual([]);
      await page.getByRole('link', { name: 'Events' }).click();
      await page.getByRole('button', { name: 'Send a test deployment event' }).click();
      await page.locator('.card').first().waitFor();
      await page.locator('table').waitFor();
      await takeScreenshot(page, `events-${suffix}`);
      expect(await findingsOf(page), 'events').toEqual([]);
      await page.evaluate("location.hash = '#/methods/conversation.prompt'");
      await page.getByRole('button', { name: 'Fill in the example' }).click();
      await page.getByRole('button', { name: 'Call', exact: true }).click();
      await page.getByLabel('Result').waitFor();
      await takeScreenshot(page, `methods-${suffix}`);
      expect(await findingsOf(page), 'methods').toEqual([]);
      await page.getByRole('link', { name: 'Terminal' }).click();
      await page.getByRole('alert').waitFor();
      await takeScreenshot(page, `terminal-${suffix}`);
      expect(await findingsOf(page), 'terminal').toEqual([]);
      expect(await page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')).toBe(true);
      expect(open.faults).toEqual([]);
    });
  });

  it('the console is usable without a mouse: sign in, go to a page, skip the navigation', async () => {
    await using open = await openPage(browser, fixture.gateway.url);
    const { page } = open;
    // The field takes the focus with the first frame after it is there.
    await page.locator('#key:focus').waitFor();
    await page.keyboard.type('dev-key');
    await page.keyboard.press('Enter');
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Events' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Deployments' }).waitFor();
    await page.getByRole('link', { name: 'Skip to content' }).focus();
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement?.id')).toBe('content');
    expect(page.url()).toContain('#/events');
  });
});
