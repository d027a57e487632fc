// What the companion's image must be for its sandboxes: the programs they are made of, a first process that reaps, a
// user without rights and a directory of its own.
import { expect, it } from 'vitest';
import { read } from '../../support/fixtures/project.ts';

const file = read('functions/companion/Containerfile');
const instructions = file
  .replaceAll(/^\s*#.*\n/gm, '')
  .replaceAll(/\\\n/g, ' ')
  .split('\n')
  .filter((line) => line !== '');
const of = (name: string): string[] =>
  instructions.flatMap((line) => (line.startsWith(`${name} `) ? [line.slice(name.length + 1)] : []));
const variables = of('ENV').join(' ');

it('installs what sandboxes are made of', () => {
  const installed = /apt-get install -y --no-install-recommends ([^&]+)/.exec(of('RUN').join('\n'))?.[1]?.split(/\s+/);
  expect(installed).toEqual(expect.arrayContaining(['bash', 'bubblewrap', 'git', 'tini', 'util-linux']));
});

it('starts with a process that reaps what sandboxes leave to it, and that hands signals on', () => {
  expect(of('ENTRYPOINT')).toEqual(['["/usr/bin/tini", "--"]']);
  expect(of('CMD')).toEqual(['["node", "main.js"]']);
});

it('runs as a user without rights, who owns the one directory for workspaces, outside /tmp', () => {
  const directory = /GATEWAY_DATA_DIR=(\S+)/.exec(variables)?.[1] ?? '';
  expect(directory).toMatch(/^\/(?!tmp)/);
  expect(of('RUN').join('\n')).toContain(`install -d -o node -g node -m 0700 ${directory}`);
  expect(of('USER')).toEqual(['node']);
  expect(instructions.findIndex((line) => line.startsWith('USER'))).toBeGreaterThan(
    instructions.findLastIndex((line) => line.startsWith('RUN')),
  );
  // Cloud Run has the same setting.
  expect(read('terraform/companion.tf')).toContain(`"${directory}"`);
});

it('runs the Node.js of the development dependencies', () => {
  const { devDependencies } = JSON.parse(read('package.json')) as { devDependencies: { node: string } };
  const [version] = of('FROM').map((image) => /^node:(\d+)\./.exec(image)?.[1]);
  expect(devDependencies.node).toContain(version);
});
