// The files of the page stay within their size, and their build is reproducible.
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { bundleConsole } from '../../../functions/console/bundle.ts';

/** Of the script that every visit loads. Measured: 30 KiB, a quarter of it the schema library. */
const MAIN_GZIP_BYTES_MAX = 32 << 10;

it('the page loads at most 32 KiB of compressed script before it is usable, and the terminal later', async () => {
  const files = await bundleConsole();
  const main = files.get('/main.js')?.body ?? new Uint8Array();
  expect(gzipSync(main).length).toBeGreaterThan(10_000);
  expect(gzipSync(main).length).toBeLessThan(MAIN_GZIP_BYTES_MAX);
  const scripts = [...files.keys()].filter((name) => name.endsWith('.js'));
  expect(scripts.length).toBeGreaterThan(1);
});

it('the page has the same bytes at each build', async () => {
  const [first, second] = await Promise.all([bundleConsole(), bundleConsole()]);
  expect([...first]).toEqual([...second]);
});
