// Bundles the programs before the suites that start them, and before each of their runs in watch mode. The bundler runs
// in a separate process, because it must import packages like Node and not like this test runner.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';

export default async function setup(project: TestProject): Promise<void> {
  const { root } = project.config;
  const directory = join(root, 'node_modules/.cache/programs');
  // The workers, which start later, have it in their environment.
  process.env.TEST_PROGRAMS = directory;
  const build = async (): Promise<void> => {
    await promisify(execFile)(process.execPath, [join(root, 'test/support/builds/programs.ts'), directory]);
  };
  await build();
  project.onTestsRerun(build);
}
