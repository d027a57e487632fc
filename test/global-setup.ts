// Once per test run: says what this machine lacks, and starts the emulators that the selected suites share. Suites keep
// apart on them by a project id of their own.
import { readFileSync } from 'node:fs';
import type { TestProject } from 'vitest/node';
import { type Emulator, startFirestoreEmulator, startPubsubEmulator } from './support/emulators.ts';
import { describeMissing, findMissing } from './support/requirements.ts';

const SHARED = { firestoreHost: startFirestoreEmulator, pubsubHost: startPubsubEmulator } as const;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const missing = findMissing();
  project.provide('missing', missing);
  const sources = await selectedSources(project);
  const started: Emulator[] = [];
  await Promise.all(
    (['firestoreHost', 'pubsubHost'] as const).map(async (name) => {
      // Starting costs seconds of two processors: only for suites that ask.
      const wanted = missing.emulators === '' && sources.some((source) => source.includes(`'${name}'`));
      const emulator = wanted ? await SHARED[name]() : undefined;
      if (emulator !== undefined) started.push(emulator);
      project.provide(name, emulator?.host ?? '');
    }),
  );
  return async () => {
    await Promise.all(started.map((emulator) => emulator.stop()));
    const line = describeMissing(missing);
    if (line !== undefined) process.stdout.write(`\n${line}\n`);
  };
}

/** The text of every test file of this run. */
async function selectedSources(project: TestProject): Promise<string[]> {
  const { vitest } = project;
  const filters = 'filenamePattern' in vitest && Array.isArray(vitest.filenamePattern) ? vitest.filenamePattern : [];
  const specifications = await vitest.globTestSpecifications(filters.map(String));
  return specifications.map((specification) => readFileSync(specification.moduleId, 'utf8'));
}
