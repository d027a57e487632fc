// The installed packages are the locked ones, from the registry, under permitted licences. Each install script is
// allowed or refused by name, and test/README.md gives a reason for each direct dependency.
import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readDocument } from '../support/documents/documents.ts';
import {
  isProduction,
  MANIFESTS,
  readDependencyTable,
  readLockedPackages,
  readManifest,
} from '../support/packages/dependencies.ts';
import { isAllowed, licencesOf } from '../support/packages/licences.ts';
import { toBom } from '../support/packages/sbom.ts';

const deployed = readLockedPackages().filter(isProduction);

describe.each(MANIFESTS)('%spackage-lock.json', (directory) => {
  const manifest = readManifest(directory);
  const locked = readLockedPackages(directory);

  it('the lockfile has a hash of every package', () => {
    expect(locked).not.toEqual([]);
    expect(locked.filter(({ integrity }) => integrity?.startsWith('sha512-') !== true)).toEqual([]);
  });

  it('the lockfile has every package from the registry: no repository, no address, no directory', () => {
    const elsewhere = locked.filter(
      ({ resolved, link }) => link === true || resolved?.startsWith('https://registry.npmjs.org/') === false,
    );
    expect(elsewhere).toEqual([]);
  });

  it('the lockfile has the exact versions of package.json', () => {
    const named = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies };
    for (const [name, version] of Object.entries(named)) {
      expect([name, version]).toEqual([name, locked.find(({ path }) => path === `node_modules/${name}`)?.version]);
    }
  });

  it('every install script in the lockfile is allowed or refused one by one', () => {
    const scripted = locked.filter(({ hasInstallScript }) => hasInstallScript === true);
    // A decision may be about one version only.
    const decided = Object.keys(manifest.allowScripts).map((key) => key.replace(/(?<=.)@[^@/]*$/, ''));
    expect(decided.toSorted()).toEqual([...new Set(scripted.map(({ name }) => name))].toSorted());
    for (const key of Object.keys(manifest.allowScripts).filter((key) => /.@/.test(key))) {
      expect(scripted.map(({ name, version }) => `${name}@${version}`)).toContain(key);
    }
  });
});

it('npm ci installs neither a Node nor what only tests and checks need, which are larger than all else', () => {
  const names = readLockedPackages().map(({ name }) => name);
  expect(names).toContain('esbuild');
  expect(names.filter((name) => /^(vitest|vite|rolldown|typescript|node-.*-(x64|arm64))$/.test(name))).toEqual([]);
});

it('no program uses what Node 24.0 lacks, the newest of npm for a Mac with Apple silicon', () => {
  const root = new URL('../../', import.meta.url);
  const files = globSync('{functions,shared,test}/**/*.{ts,js}', {
    cwd: fileURLToPath(root),
    exclude: ['**/node_modules/**'],
  });
  expect(files).toContain('functions/build/main.ts');
  // Undefined there, so that the program ends without an error and without any work.
  const lacking = `import.meta.${'main'}`;
  expect(files.filter((file) => readFileSync(new URL(file, root), 'utf8').includes(lacking))).toEqual([]);
});

describe('licences of what is deployed', () => {
  it('licences of what is deployed are on the list', () => {
    const licences = licencesOf(readLockedPackages());
    expect(licences.size).toBeGreaterThan(3);
    expect([...licences].filter(([licence]) => !isAllowed(licence))).toEqual([]);
  });

  it.each([
    ['MIT', true],
    ['(MIT OR GPL-3.0)', true],
    ['(MIT AND GPL-3.0)', false],
    ['GPL-3.0', false],
    ['SEE LICENSE IN LICENSE', false],
    ['none', false],
  ])('the licence %s is allowed: %s', (expression, allowed) => {
    expect(isAllowed(expression)).toBe(allowed);
  });
});

describe('the bill of materials', () => {
  const bom = toBom();

  it('the bill of materials lists every package that is deployed, by its address', () => {
    expect(bom.components.map((component) => component['bom-ref'])).toEqual(deployed.map(({ path }) => path));
    for (const { purl } of bom.components) expect(purl).toMatch(/^pkg:npm\/(%40[\w.-]+\/)?[\w.-]+@\d[\w.+-]*$/);
  });

  it('the bill of materials leads from the gateway to each package', () => {
    const edges = new Map(bom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
    const reached = new Set(edges.get('codex-gateway'));
    // A set goes on to what is added while it is walked.
    for (const ref of reached) for (const next of edges.get(ref) ?? []) reached.add(next);
    const unreached = deployed.filter(({ path }) => !reached.has(path)).map(({ name }) => name);
    expect(unreached).toEqual([]);
  });
});

describe('test/README.md', () => {
  it.each([
    ['deployed', readManifest().dependencies],
    ['development', readManifest().devDependencies],
    ['tests and benches', readManifest('test/').dependencies],
  ])('test/README.md gives a reason for each package of the table "%s"', (heading, packages) => {
    expect(readDependencyTable(readDocument('test/README.md'), heading).toSorted()).toEqual(
      Object.keys(packages).toSorted(),
    );
  });
});
