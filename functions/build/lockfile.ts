// Writes the package-lock.json of a deployable: the packages that are installed there, with the versions and hashes of
// the project's lockfiles, so that `npm ci` installs exactly these.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

const ROOT = path.resolve(import.meta.dirname, '../..');
/** The lockfile of the gateway, and that of the tests, which pins Codex. */
const LOCKFILES = ['package-lock.json', 'test/package-lock.json'];

const Versions = z.record(z.string(), z.string()).default({});
const Package = z.looseObject({ version: z.string().optional(), integrity: z.string().optional() });
const Lockfile = z.object({ lockfileVersion: z.literal(3), packages: z.record(z.string(), Package) });
const Requires = z.object({ dependencies: Versions, optionalDependencies: Versions });

type Packages = z.output<typeof Lockfile>['packages'];

/** Name and version of the deployable, and its dependencies in exact versions. */
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

/** Throws if a dependency is not locked, locked in another version, or has no hash. */
export function toLockfile({ name, version, dependencies }: Installed, locked: readonly Packages[]): object {
  const packages: Packages = {};
  for (const [dependency, pinned] of Object.entries(dependencies)) {
    const place = `node_modules/${dependency}`;
    const lock = locked.find((candidate) => place in candidate);
    if (lock === undefined) throw new Error(`${dependency} is in no lockfile with a hash`);
    add(place, packages, lock);
    const found = packages[place]?.version;
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

/**
 * Adds a package and its dependencies with the same paths in node_modules as in the project, so that imports resolve in
 * the same way.
 */
function add(place: string, packages: Packages, lock: Packages): void {
  const found = lock[place];
  if (found?.integrity === undefined) throw new Error(`${place} is in no lockfile with a hash`);
  const added = packages[place];
  if (added !== undefined && added.version !== found.version) throw new Error(`${place} is locked at two versions`);
  if (added !== undefined) return;
  // These fields describe why the project installs the package, which does not apply to the deployable.
  const { dev: _dev, devOptional: _devOptional, ...kept } = found;
  packages[place] = kept;
  const { dependencies, optionalDependencies } = Requires.parse(found);
  for (const required of Object.keys({ ...dependencies, ...optionalDependencies })) {
    add(placeOf(required, place, lock), packages, lock);
  }
}

/**
 * Returns the path at which Node.js resolves `name` for the package at `place`: below it, or below one of its parents.
 */
function placeOf(name: string, place: string, lock: Packages): string {
  let parent = place;
  while (parent !== '') {
    const candidate = `${parent}/node_modules/${name}`;
    if (candidate in lock) return candidate;
    parent = parent.slice(0, Math.max(parent.lastIndexOf('/node_modules/'), 0));
  }
  return `node_modules/${name}`;
}
