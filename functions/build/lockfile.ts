// The package-lock.json of an image: of the packages that the project's lockfiles pin, those that are installed there,
// with their hashes, so that `npm ci` installs exactly them.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

const ROOT = path.resolve(import.meta.dirname, '../..');
/** The gateway's own packages, and those of the tests, which pin Codex. */
const LOCKFILES = ['package-lock.json', 'test/package-lock.json'];

const Versions = z.record(z.string(), z.string()).default({});
const Package = z.looseObject({ version: z.string().optional(), integrity: z.string().optional() });
const Lockfile = z.object({ lockfileVersion: z.literal(3), packages: z.record(z.string(), Package) });
const Requires = z.object({ dependencies: Versions, optionalDependencies: Versions });

type Packages = z.output<typeof Lockfile>['packages'];

/** What is installed: name and version of the deployment, and its dependencies at exact versions. */
export interface Installed {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

export async function readLockfiles(): Promise<readonly Packages[]> {
  const texts = await Promise.all(LOCKFILES.map((file) => readFile(path.join(ROOT, file), 'utf8')));
  return texts.map((text) => Lockfile.parse(JSON.parse(text)).packages);
}

export async function writeLockfile(outdir: string, installed: Installed, locked: readonly Packages[]): Promise<void> {
  const text = JSON.stringify(toLockfile(installed, locked), null, 2);
  await writeFile(path.join(outdir, 'package-lock.json'), `${text}\n`);
}

/** Throws when a dependency is locked nowhere, at another version or without a hash. */
export function toLockfile({ name, version, dependencies }: Installed, locked: readonly Packages[]): object {
  const packages: Packages = {};
  for (const [dependency, pinned] of Object.entries(dependencies)) {
    add(dependency, packages, locked);
    const found = packages[`node_modules/${dependency}`]?.version;
    if (found !== pinned) throw new Error(`${dependency} is locked at ${found}, and not at ${pinned}`);
  }
  const sorted = Object.fromEntries(Object.entries(packages).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  return {
    name,
    version,
    lockfileVersion: 3,
    requires: true,
    packages: { '': { name, version, dependencies }, ...sorted },
  };
}

/** A package and what it requires. Only packages at the top of node_modules, where every other package finds them. */
function add(name: string, packages: Packages, locked: readonly Packages[]): void {
  const place = `node_modules/${name}`;
  if (place in packages) return;
  const lock = locked.find((candidate) => place in candidate);
  const found = lock?.[place];
  if (lock === undefined || found?.integrity === undefined) throw new Error(`${name} is in no lockfile with a hash`);
  if (Object.keys(lock).some((other) => other.startsWith(`${place}/`)))
    throw new Error(`${name} has packages of its own`);
  // Both say why a package is installed in the project, not in the image.
  const { dev: _dev, devOptional: _devOptional, ...kept } = found;
  packages[place] = kept;
  const { dependencies, optionalDependencies } = Requires.parse(found);
  for (const required of Object.keys({ ...dependencies, ...optionalDependencies })) add(required, packages, locked);
}
