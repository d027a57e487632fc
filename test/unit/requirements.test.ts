// A suite whose requirements a machine lacks is skipped and named at the end, and fails in CI.
import { describe, expect, it } from 'vitest';
import { describeMissing, findMissing, type Missing, ruleFor } from '../support/requirements.ts';

const ALL = Object.keys(findMissing()) as (keyof Missing)[];
const PRESENT = Object.fromEntries(ALL.map((name) => [name, ''])) as Missing;

it('a machine that has everything gets no closing line', () => {
  expect(describeMissing(PRESENT)).toBeUndefined();
});

it('what is missing is named in one closing line, each with how to get it', () => {
  for (const name of ALL) expect(describeMissing({ ...PRESENT, [name]: `get ${name}` })).toContain(`(get ${name})`);
  const line = describeMissing({ ...PRESENT, emulators: 'install the SDK', chromium: 'install it', codex: 'npm i' });
  expect(line).toBe(
    'not run here: suites that need Firestore and Pub/Sub emulators (install the SDK), Chromium (install it), ' +
      'Codex and bubblewrap (npm i)',
  );
});

describe('a suite', () => {
  it.each(ALL)('a suite that needs %s runs where it is installed, with and without CI', (name) => {
    for (const ci of [undefined, 'true']) expect(ruleFor(name, PRESENT, ci)).toBe('run');
  });

  it.each(['emulators', 'chromium', 'bubblewrap', 'codex', 'strace', 'shell', 'python', 'patches'] as const)(
    'a suite that needs %s is skipped where it is missing, and fails with CI=true',
    (name) => {
      const missing = { ...PRESENT, [name]: 'install it' };
      expect([ruleFor(name, missing, undefined), ruleFor(name, missing, '')]).toEqual(['skip', 'skip']);
      expect(ruleFor(name, missing, 'true')).toBe('fail');
    },
  );

  it.each(['mounts', 'memory', 'networks'] as const)(
    'a suite that needs %s fails with CI=true where an installation is missing, and is skipped without the right',
    (name) => {
      expect(ruleFor(name, { ...PRESENT, [name]: 'install it' }, 'true')).toBe('fail');
      expect(ruleFor(name, { ...PRESENT, [name]: 'run as root' }, 'true')).toBe('skip');
    },
  );
});
