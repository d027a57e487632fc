// The deploy workflow uses only files, scripts and variables that exist, and protects its secrets.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { matches, ROOT, read } from '../../support/fixtures/project.ts';

const workflow = read('.github/workflows/deploy.yml');

it('the deploy workflow runs scripts and npm commands that exist, and plans with declared variables', () => {
  const scripts = matches(workflow, /bash (terraform\/[\w-]+\.sh)/g);
  expect(scripts).toEqual(new Set(['terraform/init.sh', 'terraform/traffic.sh']));
  expect([...scripts].filter((script) => !existsSync(join(ROOT, script)))).toEqual([]);
  const { scripts: commands } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const used = matches(workflow, /npm run (?:-s )?(\w+)/g);
  expect(used).toEqual(new Set(['check', 'build', 'smoke']));
  expect([...used].filter((name) => !(name in commands))).toEqual([]);
  const declared = matches(read('terraform/variables.tf'), /^variable "(\w+)"/gm);
  for (const name of matches(workflow, /-var "(\w+)=/g)) expect(declared).toContain(name);
  const outputs = matches(read('terraform/outputs.tf'), /^output "(\w+)"/gm);
  for (const name of matches(workflow, /output -raw (\w+)/g)) expect(outputs).toContain(name);
});

it.each(['ci', 'deploy'])('every action of %s.yml is pinned by commit, and no token is left in a checkout', (name) => {
  const text = read(`.github/workflows/${name}.yml`);
  const used = text.match(/\buses: .*$/gm) ?? [];
  expect(used.length).toBeGreaterThan(0);
  for (const line of used) expect(line).toMatch(/^uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  const checkouts = text.split(/^ {6}- /m).filter((step) => step.includes('actions/checkout@'));
  for (const step of checkouts) expect(step).toContain('persist-credentials: false');
});

it('the deploy workflow masks the key of the smoke test before its use, and writes no key document to the log', () => {
  const step = workflow.slice(workflow.indexOf('SMOKE_KEY: ${{'));
  const places = [
    'GATEWAY_KEY=${SMOKE_KEY:-',
    '=~ ^[^[:space:]{}]+$',
    '::add-mask::$GATEWAY_KEY',
    'export GATEWAY_KEY',
  ];
  const found = places.map((text) => step.indexOf(text));
  expect(found).not.toContain(-1);
  expect(found).toEqual(found.toSorted((a, b) => a - b));
});

it('every environment of the deploy workflow has a .tfvars file', () => {
  const [environments = ''] = matches(workflow, /options: \[([^\]]+)\]/g);
  expect(environments.split(', ')).toEqual(['dev', 'prod']);
  for (const name of environments.split(', '))
    expect(existsSync(join(ROOT, `terraform/envs/${name}.tfvars`))).toBe(true);
});

it('the workflow gives identities only to jobs of this repository, and rolls back when the smoke test fails', () => {
  const jobs = workflow.split(/^ {2}(?=\w+:$)/m).filter((job) => job.includes('id-token: write'));
  expect(jobs).toHaveLength(2);
  for (const job of jobs) {
    expect(job).toMatch(/^ {4}environment: /m);
    expect(job).toMatch(/head\.repo\.full_name == github\.repository|github\.event_name != 'pull_request'/);
  }
  const deploy = workflow.slice(workflow.indexOf('  deploy:'));
  const places = [
    '" hold',
    'apply -auto-approve',
    'percent "$CANARY"',
    'run -s smoke',
    'percent 100',
    'if: failure()',
    'restore <"$RUNNER_TEMP/held"',
  ].map((text) => deploy.indexOf(text));
  expect(places).not.toContain(-1);
  expect(places).toEqual(places.toSorted((a, b) => a - b));
});
