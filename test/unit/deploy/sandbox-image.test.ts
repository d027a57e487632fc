// The image of the sandbox service has the programs that sandboxes are made of, a first process that reaps, a directory
// that is closed to every other user, and exactly the packages that the lockfiles pin.
import { expect, it } from 'vitest';
import { readLockfiles, toLockfile } from '../../../functions/build/lockfile.ts';
import { pinnedDependencies } from '../../../functions/build/manifest.ts';
import { CODEX_VERSION } from '../../../shared/codex-host/binary.ts';
import { read } from '../../support/fixtures/project.ts';

const instructions = read('functions/sandbox/Containerfile')
  .replaceAll(/^\s*#.*\n/gm, '')
  .replaceAll(/\\\n/g, ' ')
  .split('\n')
  .filter((line) => line !== '');
const of = (name: string): string[] =>
  instructions.flatMap((line) => (line.startsWith(`${name} `) ? [line.slice(name.length + 1)] : []));
const variables = of('ENV').join(' ');

it('the image installs what sandboxes are made of', () => {
  const installed = /apt-get install -y --no-install-recommends ([^&]+)/.exec(of('RUN').join('\n'))?.[1]?.split(/\s+/);
  expect(installed).toEqual(expect.arrayContaining(['bash', 'bubblewrap', 'git', 'iproute2', 'tini', 'util-linux']));
});

it('the image starts with a process that reaps what sandboxes leave to it, and that passes signals on', () => {
  expect(of('ENTRYPOINT')).toEqual(['["/usr/bin/tini", "--"]']);
  expect(of('CMD')).toEqual(['["node", "main.js"]']);
});

it('the image runs as root, so that each owner has a user id, over a directory that only root enters', () => {
  const directory = /GATEWAY_DATA_DIR=(\S+)/.exec(variables)?.[1] ?? '';
  expect(directory).toMatch(/^\/(?!tmp)/);
  expect(of('RUN').join('\n')).toContain(`install -d -m 0700 ${directory}`);
  expect(of('USER')).toEqual([]);
});

it('the image listens where Cloud Run expects it', () => {
  const [, port] = /PORT=(\d+)/.exec(variables) ?? [];
  expect(variables).toContain('HOST=0.0.0.0');
  expect(read('terraform/sandbox.tf')).toMatch(new RegExp(`container_port = ${port}\n`));
});

it('the image contains no secret and no setting of a gateway', () => {
  expect(of('ARG').map((argument) => argument.split('=')[0])).toEqual(['BASE_IMAGE']);
  expect(variables).not.toMatch(/TOKEN|KEY|SECRET|GOOGLE/);
});

it('the image has the major version of Node.js that functions/node installs', () => {
  const { optionalDependencies } = JSON.parse(read('functions/node/package.json')) as {
    optionalDependencies: Record<string, string>;
  };
  expect(of('FROM').join()).toMatch(/^\$\{BASE_IMAGE\}$/);
  const [version = ''] = of('ARG').map((image) => /^BASE_IMAGE=node:(\d+\.)/.exec(image)?.[1] ?? '');
  expect(version).not.toBe('');
  expect(Object.keys(optionalDependencies).length).toBeGreaterThan(0);
  for (const installed of Object.values(optionalDependencies)) expect(installed).toContain(version);
});

it('the image installs by a lockfile, with the version and hash of every package', async () => {
  expect(of('RUN').join('\n')).toContain('npm ci --omit=dev');
  const dependencies = { ...(await pinnedDependencies(['@lydell/node-pty'])), '@openai/codex': CODEX_VERSION };
  const locked = await readLockfiles();
  const lockfile = toLockfile({ name: 'sandbox', version: '1.0.0', dependencies }, locked);
  const platforms = ['darwin-arm64', 'darwin-x64', 'linux-arm64', 'linux-x64', 'win32-arm64', 'win32-x64'];
  const places = ['@lydell/node-pty', '@openai/codex'].flatMap((name) =>
    ['', ...platforms.map((platform) => `-${platform}`)].map((end) => `node_modules/${name}${end}`),
  );
  const hash = expect.objectContaining({ version: expect.any(String), integrity: expect.stringMatching(/^sha512-/) });
  expect(lockfile).toMatchObject({
    lockfileVersion: 3,
    packages: { '': { dependencies }, ...Object.fromEntries(places.map((place) => [place, hash])) },
  });
});

it('the image is not built from a lockfile that has another version, or lacks a package', async () => {
  const locked = await readLockfiles();
  const of = (dependencies: Record<string, string>) => () =>
    toLockfile({ name: 'x', version: '1', dependencies }, locked);
  expect(of({ '@openai/codex': '0.0.1' })).toThrow(`@openai/codex is locked at ${CODEX_VERSION}, and not at 0.0.1`);
  expect(of({ 'not-there': '1.0.0' })).toThrow('not-there is in no lockfile with a hash');
});

it('the functions are installed by a lockfile, packages of packages included', async () => {
  const dependencies = await pinnedDependencies(['@google-cloud/functions-framework']);
  const locked = await readLockfiles();
  const lockfile = toLockfile({ name: 'functions', version: '1.0.0', dependencies }, locked) as {
    packages: Record<string, { integrity?: string }>;
  };
  const { '': root, ...packages } = lockfile.packages;
  expect(root).toMatchObject({ dependencies });
  expect(Object.keys(packages)).toEqual(expect.arrayContaining(['node_modules/express', 'node_modules/body-parser']));
  expect(Object.keys(packages).filter((place) => place.lastIndexOf('node_modules/') > 0)).not.toEqual([]);
  expect(Object.values(packages).filter(({ integrity }) => !integrity?.startsWith('sha512-'))).toEqual([]);
});
