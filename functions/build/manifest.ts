// Writes the package.json of a deployable from that of the project.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

const ROOT = path.resolve(import.meta.dirname, '../..');

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** Writes the package.json from which the dependencies of a deployable are installed. Returns its name and version. */
export async function writeManifest(
  outdir: string,
  name: string,
  fields: object,
): Promise<Pick<Manifest, 'name' | 'version'>> {
  const own = await ownManifest();
  const deployed = {
    name: `${own.name}-${name}`,
    version: own.version,
    private: true,
    type: 'module',
    engines: { node: '24' },
    ...fields,
  };
  await writeFile(path.join(outdir, 'package.json'), `${JSON.stringify(deployed, null, 2)}\n`);
  return deployed;
}

/** Returns the exact versions of those given packages that are in the package.json of the project. */
export async function pinnedDependencies(names: readonly string[]): Promise<Record<string, string>> {
  const { dependencies, devDependencies } = await ownManifest();
  const known = { ...devDependencies, ...dependencies };
  return Object.fromEntries(
    names.flatMap((name) => {
      const version = known[name];
      if (version === undefined) return [];
      if (!/^\d/.test(version)) throw new Error(`${name} must be pinned exactly`);
      return [[name, version]];
    }),
  );
}

export async function ownManifest(): Promise<Manifest> {
  return readManifest(JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8')));
}

function readManifest(json: unknown): Manifest {
  const isManifest = (value: unknown): value is Manifest =>
    typeof value === 'object' &&
    value !== null &&
    ['name', 'version', 'dependencies', 'devDependencies'].every((field) => field in value);
  if (!isManifest(json)) throw new Error('package.json lacks name, version or dependencies');
  return json;
}
