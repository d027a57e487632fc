// The console's terminal works in a real browser, on a real shell in the sandbox, and shows what is missing where there
// is no sandbox.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { launchBrowser, openPage, takeScreenshot } from '../../support/fixtures/gateway/browser.ts';
import { signIn, startFixture, useUp, withoutSandbox } from '../../support/fixtures/gateway/console.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('chromium', 'the console’s terminal', () => {
  let browser: Browser;
  const data = mkdtempSync(join(tmpdir(), 'console-'));
  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(data, { recursive: true, force: true });
  });

  it('the console’s terminal shows what is missing on a machine without a sandbox', async () => {
    await using fixture = await startFixture({ GATEWAY_DATA_DIR: data }, withoutSandbox());
    await using open = await openPage(browser, fixture.gateway.url);
    await signIn(open.page);
    await open.page.getByRole('link', { name: 'Terminal' }).click();
    await open.page.getByRole('alert').getByText('sandbox_unavailable').waitFor();
    await open.page.getByText('apt-get install').waitFor();
    expect(open.faults).toEqual([]);
  });

  it('the console’s terminal shows when its program could not be fetched, and fetches it again on request', async () => {
    await using fixture = await startFixture({ GATEWAY_DATA_DIR: data }, withoutSandbox());
    await using open = await openPage(browser, fixture.gateway.url);
    const { page } = open;
    await signIn(page);
    await page.route('**/screen-*.js', (route) => route.abort('connectionrefused'));
    await page.getByRole('link', { name: 'Terminal' }).click();
    await page.getByRole('alert').getByText('The gateway cannot be reached').waitFor();
    expect(await page.getByText('Loading the terminal').count()).toBe(0);
    await page.unroute('**/screen-*.js');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByRole('alert').getByText('sandbox_unavailable').waitFor();
    expect(open.faults).toEqual([]);
  });

  describeWith('bubblewrap', 'on a shell', () => {
    it('a shell in the console echoes what is typed, shows colours, and is found again after a reload', async () => {
      await using fixture = await startFixture({ GATEWAY_DATA_DIR: data });
      await using open = await openPage(browser, fixture.gateway.url);
      const { page } = open;
      await signIn(page);
      await page.getByRole('link', { name: 'Terminal' }).click();
      await page.locator('.screen[data-phase=running]').waitFor();
      await page.keyboard.type('here=$((6*7)); printf "\\033[38;2;255;100;0mit is $here\\033[0m\\n"\n');
      await page.locator('.xterm-rows span', { hasText: 'it is 42' }).waitFor();
      const line = "[...document.querySelectorAll('.xterm-rows span')].find((span) => span.innerText === 'it is 42')";
      expect(await page.evaluate(`getComputedStyle(${line}).color`)).toBe('rgb(255, 100, 0)');
      await takeScreenshot(page, 'terminal');
      await page.reload();
      await page.locator('.screen[data-phase=running]').waitFor();
      await page.keyboard.type('echo again $((here + 1))\n');
      await page.locator('.xterm-rows').getByText('again 43').waitFor();
      await page.keyboard.press('Control+Shift+E');
      expect(await page.evaluate('document.activeElement?.id')).toBe('content');
      await page.getByRole('button', { name: 'End the shell' }).click();
      await page.getByText('The shell has ended').waitFor();
      expect(open.faults).toEqual([]);
    });

    it('typing in the console costs no call of the windows that it shows, and works at once when no call is left', async () => {
      const limits = { GATEWAY_LIMITS: '8/minute,1000/day' };
      await using fixture = await startFixture({ GATEWAY_DATA_DIR: data, ...limits });
      await using open = await openPage(browser, fixture.gateway.url);
      const { page } = open;
      await signIn(page);
      await page.getByRole('link', { name: 'Terminal' }).click();
      await page.locator('.screen[data-phase=running]').waitFor();
      await useUp(fixture.gateway.url);
      const day = page.getByRole('meter', { name: 'Calls left this day' });
      const leftOfDay = await day.getAttribute('aria-valuenow');
      await page.keyboard.type('echo no call $((6*7))\n');
      await page.locator('.xterm-rows').getByText('no call 42').waitFor({ timeout: 5_000 });
      expect(await day.getAttribute('aria-valuenow')).toBe(leftOfDay);
      expect(open.faults).toEqual([]);
    });
  });
});
