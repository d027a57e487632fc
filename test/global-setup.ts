// Runs once per test run, and names what this machine lacks.
import type { TestProject } from 'vitest/node';
import { describeMissing, findMissing } from './support/requirements.ts';

export default function setup(project: TestProject): () => void {
  const missing = findMissing();
  project.provide('missing', missing);
  return () => {
    const line = describeMissing(missing);
    if (line !== undefined) process.stdout.write(`\n${line}\n`);
  };
}
