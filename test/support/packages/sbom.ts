// `npm run -s sbom`: the software bill of materials of a deployment, CycloneDX 1.6
// (https://cyclonedx.org/docs/1.6/json/), from the lockfile alone. Not `npm sbom --omit dev`, which leaves out what
// development happens to need too (npm 11.19: zod and ws, among 109 packages).
import { isProduction, type LockedPackage, readLockedPackages, readManifest } from './dependencies.ts';

export interface Bom {
  readonly components: readonly { readonly 'bom-ref': string; readonly purl: string }[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
  readonly [member: string]: unknown;
}

const ROOT = 'codex-gateway';

/** The document; the same for the same lockfile, so without a time or serial number. */
export function toBom(): Bom {
  const packages = readLockedPackages().filter(isProduction);
  const byPath = new Map(packages.map((one) => [one.path, one]));
  const graph = [{ path: '', dependencies: readManifest().dependencies }, ...packages].map((one) => ({
    ref: one.path === '' ? ROOT : one.path,
    dependsOn: Object.keys({ ...one.dependencies, ...('optionalDependencies' in one ? one.optionalDependencies : {}) })
      .map((name) => resolve(byPath, one.path, name))
      .filter((path) => path !== undefined),
  }));
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: { type: 'application', 'bom-ref': ROOT, name: ROOT } },
    components: packages.map(toComponent),
    dependencies: graph,
  };
}

function toComponent({ path, name, version = '', integrity = '', license, optional }: LockedPackage) {
  const [, algorithm = '', hash = ''] = /^(sha\d+)-(\S+)/.exec(integrity) ?? [];
  return {
    type: 'library',
    'bom-ref': path,
    name,
    version,
    scope: optional === true ? 'optional' : 'required',
    purl: `pkg:npm/${name.replace(/^@/, '%40')}@${version}`,
    hashes: [{ alg: algorithm.replace('sha', 'SHA-'), content: Buffer.from(hash, 'base64').toString('hex') }],
    ...(license !== undefined && { licenses: [{ expression: license.replace(/^\((.*)\)$/, '$1') }] }),
  };
}

/** As Node looks for a package: in the directories above, the nearest first. */
function resolve(packages: ReadonlyMap<string, unknown>, from: string, name: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const path = `${at === '' ? '' : `${at}/`}node_modules/${name}`;
    if (packages.has(path)) return path;
    if (at === '') return undefined;
  }
}

if (process.argv[1] === import.meta.filename) process.stdout.write(`${JSON.stringify(toBom(), null, 2)}\n`);
