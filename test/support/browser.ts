// A real Chromium for tests, with a profile of its own, and what a test wants to know of a page: what it broke, and how
// it looks.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { ROOT } from './local-gateway.ts';
import { findChromium } from './requirements.ts';

const SCREENSHOTS = join(ROOT, 'test/screenshots');
/** Against hanging; an idle machine takes a tenth of a second. */
const STEP_MS = 30_000;

/** In this browser the name of 127.0.0.1 that no page may trust: over plain http it is as good as a host in the LAN. */
export const REMOTE_HOST = 'gw.test';

/**
 * Starts it headless; Playwright makes a new profile and removes it. Nothing of it speaks to anybody but the test's
 * servers.
 */
export async function launchBrowser(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error('Chromium is missing');
  return chromium.launch({
    executablePath,
    headless: true,
    args: [
      '--no-sandbox',
      `--host-resolver-rules=MAP ${REMOTE_HOST} 127.0.0.1`,
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

export interface OpenPage extends AsyncDisposable {
  readonly page: Page;
  /** Uncaught errors, and everything the page's policy refused. */
  readonly faults: readonly string[];
}

/** A page in a context of its own; closed with its context when disposed. */
export async function openPage(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<OpenPage> {
  const context = await browser.newContext({
    viewport: { width: 1200, height: 800 },
    reducedMotion: 'reduce',
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) faults.push(message.text());
  });
  await page.goto(url);
  return { page, faults, [Symbol.asyncDispose]: () => context.close() };
}

/** Into test/screenshots, which git ignores. */
export async function takeScreenshot(page: Page, name: string): Promise<void> {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
