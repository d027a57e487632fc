// Finds the licences of what a deployment installs. Run as a program it prints them: `node
// test/support/packages/licences.ts`.
import { isProduction, type LockedPackage, readLockedPackages } from './dependencies.ts';

/**
 * SPDX identifiers that require no more than naming the authors. CC-BY-3.0 and CC0-1.0 are those of SPDX's own lists of
 * licences.
 */
const ALLOWED_LICENCES: ReadonlySet<string> = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'CC-BY-3.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'Unlicense',
]);

/** Production packages by their licence, an SPDX expression; `none` where a package names none. */
export function licencesOf(packages: readonly LockedPackage[]): ReadonlyMap<string, readonly LockedPackage[]> {
  return Map.groupBy(packages.filter(isProduction), ({ license = 'none' }) => license);
}

/** Whether an SPDX expression without exceptions is on the list: one side of each OR, both sides of each AND. */
export function isAllowed(expression: string): boolean {
  const inner = /^\(([^()]*)\)$/.exec(expression)?.[1] ?? expression;
  return inner.split(' OR ').some((choice) => choice.split(' AND ').every((licence) => ALLOWED_LICENCES.has(licence)));
}

if (process.argv[1] === import.meta.filename) {
  for (const [licence, packages] of [...licencesOf(readLockedPackages())].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    process.stdout.write(`${licence}: ${packages.map(({ name, version }) => `${name}@${version}`).join(', ')}\n`);
  }
}
