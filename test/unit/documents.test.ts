import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { README, render } from '../support/readme.ts';

test('the tables of the README are what the registry and the error table say (npm run docs)', async () => {
  const readme = await readFile(README, 'utf8');
  expect(readme).toBe(render(readme));
});
