// Before the suites that start programs, and before each of their runs in watch mode: bundles the programs. In a
// process of its own, because the bundler imports packages as Node does and not as this runner.
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
    await promisify(execFile)(process.execPath, [join(root, 'test/support/programs.ts'), directory]);
  };
  await build();
  project.onTestsRerun(build);
}
