// The packages of this project, read from package.json and the lockfiles without network access.
import { readFileSync } from 'node:fs';
import { z } from 'zod';

const Manifest = z.object({
  allowScripts: z.record(z.string(), z.boolean()).default({}),
  dependencies: z.record(z.string(), z.string()).default({}),
  devDependencies: z.record(z.string(), z.string()).default({}),
  optionalDependencies: z.record(z.string(), z.string()).default({}),
});
/** A member is absent if npm does not return it. */
const Entry = z.object({
  version: z.string().optional(),
  resolved: z.string().optional(),
  integrity: z.string().optional(),
  link: z.boolean().optional(),
  license: z.string().optional(),
  dev: z.boolean().optional(),
  devOptional: z.boolean().optional(),
  optional: z.boolean().optional(),
  hasInstallScript: z.boolean().optional(),
  dependencies: z.record(z.string(), z.string()).optional(),
  optionalDependencies: z.record(z.string(), z.string()).optional(),
});
const Lockfile = z.object({ lockfileVersion: z.literal(3), packages: z.record(z.string(), Entry) });

export interface LockedPackage extends z.output<typeof Entry> {
  readonly name: string;
  /** Where it is installed, `node_modules/...`. */
  readonly path: string;
}

/**
 * The directories that have a package.json and a lockfile: of the gateway, of the packages that only tests use, and of
 * the Node for machines whose own is too old.
 */
export const MANIFESTS = ['', 'test/', 'functions/node/'] as const;
type ManifestDirectory = (typeof MANIFESTS)[number];

export function readManifest(directory: ManifestDirectory = ''): z.output<typeof Manifest> {
  return Manifest.parse(readJson(`${directory}package.json`));
}

/** Every package of a package-lock.json but the project itself. */
export function readLockedPackages(directory: ManifestDirectory = ''): readonly LockedPackage[] {
  const { packages } = Lockfile.parse(readJson(`${directory}package-lock.json`));
  return Object.entries(packages)
    .filter(([path]) => path !== '')
    .map(([path, entry]) => ({ ...entry, path, name: path.split('node_modules/').at(-1) ?? path }));
}

/** What a deployment installs: neither for development only nor there by chance. */
export function isProduction({ dev, devOptional }: LockedPackage): boolean {
  return dev !== true && devOptional !== true;
}

/** The names in the first column of a document's table of dependencies, by the table's heading. */
export function readDependencyTable(document: string, heading: string): readonly string[] {
  const [, after = ''] = document.split(`\n| ${heading} |`);
  const [table = ''] = after.split('\n\n');
  return table
    .split('\n')
    .slice(2)
    .flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? ''));
}

function readJson(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8'));
}
