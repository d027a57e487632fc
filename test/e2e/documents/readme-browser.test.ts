// The React component of the README compiles, and in a real browser, on a page of another origin that the gateway
// allows, it shows the answer. Preact's compatibility layer replaces React, which this project does not install.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { kindOf, readCodeBlocks } from '../../support/documents/code-blocks.ts';
import { DOCUMENTS, readDocument } from '../../support/documents/documents.ts';
import { launchBrowser, openPage } from '../../support/fixtures/gateway/browser.ts';
import { type LocalGateway, ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const PRINTED = 'http://127.0.0.1:8080';
const modules = join(ROOT, 'node_modules');
const scratch = mkdtempSync(join(tmpdir(), 'readme-browser-'));
const blocks = DOCUMENTS.flatMap((path) => readCodeBlocks(readDocument(path))).filter(
  (block) => kindOf(block) === 'react',
);
const component = blocks.map(({ text }) => text).join('');
afterAll(() => rmSync(scratch, { recursive: true }));

it('the React component of the README compiles', () => {
  expect(blocks).toHaveLength(1);
  writeFileSync(join(scratch, 'component.tsx'), component);
  const compilerOptions = {
    ...{ strict: true, noEmit: true, target: 'es2024', module: 'preserve', lib: ['es2024', 'dom'], types: [] },
    ...{ jsx: 'react-jsx', jsxImportSource: 'preact', skipLibCheck: true },
    paths: { react: [join(modules, 'preact/compat/src/index.d.ts')], 'preact/*': [join(modules, 'preact/*')] },
  };
  writeFileSync(join(scratch, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['component.tsx'] }));
  const compiler = join(ROOT, 'test/node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [compiler, '-p', scratch], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect([status, stdout]).toEqual([0, '']);
});

describeWith('chromium', 'in a browser', () => {
  let browser: Browser;
  let page: Server;
  let gateway: LocalGateway;
  let script = '';

  beforeAll(async () => {
    page = createServer((req, res) => {
      const isScript = req.url === '/page.js';
      res.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
      res.end(isScript ? script : '<!doctype html><div id="root"></div><script type="module" src="/page.js"></script>');
    }).listen(0, '127.0.0.1');
    await once(page, 'listening');
    [browser, gateway] = await Promise.all([
      launchBrowser(),
      startLocalGateway({ env: { ALLOWED_ORIGINS: originOf(page) } }),
    ]);
    script = await bundle(gateway.url);
  });
  afterAll(async () => {
    await browser?.close();
    await gateway?.stop();
    page?.close();
  });

  it('the React component of the README shows the answer to what the user has typed', async () => {
    await using open = await openPage(browser, originOf(page));
    await open.page.getByLabel('Prompt').fill('Hello from a page');
    await open.page.getByRole('button', { name: 'Ask' }).click();
    await open.page.getByText('You said: Hello from a page').waitFor();
    expect(open.faults).toEqual([]);
  });
});

function originOf(server: Server): string {
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
}

async function bundle(gatewayUrl: string): Promise<string> {
  const mount = `import { render } from 'preact';
render(<AskModel apiKey="dev-key" />, document.getElementById('root'));`;
  const { outputFiles } = await build({
    stdin: { contents: component.replace(PRINTED, gatewayUrl) + mount, loader: 'tsx', resolveDir: ROOT },
    ...{ bundle: true, write: false, format: 'esm', jsx: 'automatic', jsxImportSource: 'preact' },
    alias: { react: 'preact/compat' },
  });
  return outputFiles[0]?.text ?? '';
}
