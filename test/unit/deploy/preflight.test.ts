// The checks before an apply find what a project lacks, and name what to do. Gcloud, curl and terraform are replaced by
// substitutes that answer as a project would.
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { ROOT } from '../../support/fixtures/project.ts';

const SCRIPT = join(ROOT, 'terraform/preflight.sh');
const PERMISSIONS = /rights="([^"]+)"/g;

/** What the project answers; each test changes what it is about. */
const READY = {
  account: 'me@example.com',
  token: 'ya29.secret',
  number: '123456789012',
  billing: 'True',
  billingAccount: 'billingAccounts/0X0X0X-0X0X0X-0X0X0X',
  budgets: '{"permissions": ["billing.budgets.create"]}',
  apis: 'serviceusage.googleapis.com\ncloudresourcemanager.googleapis.com',
  terraform: 'Terraform v1.14.0',
  lacks: '',
  unreachable: '',
  domains: '{"spec": {"rules": [{"allowAll": true}]}}',
  requireInvoker: '{}',
  ingress: '{}',
  database: '',
  firebase: '{"projectId": "p"}',
};

let bin: string;
beforeEach(async () => {
  bin = await mkdtemp(join(tmpdir(), 'preflight-'));
  onTestFinished(() => rm(bin, { recursive: true }));
});

async function preflight(change: Partial<typeof READY> = {}) {
  const { stdout: script } = await run('cat', [SCRIPT], process.env);
  const rights = [...script.matchAll(PERMISSIONS)].map(([, lines = '']) => lines.split('\n'));
  expect(rights).toHaveLength(2);
  const permissions = rights.flat().map((line) => line.split(' ')[0] ?? '');
  const answers = { ...READY, ...change };
  const programs = {
    gcloud: `case "$*" in
  *'auth list'*) echo "$account" ;;
  *print-access-token*) [ -n "$token" ] && echo "$token" ;;
  *'projects describe'*billingEnabled*) echo "$billing" ;;
  *'projects describe'*billingAccountName*) echo "$billingAccount" ;;
  *'projects describe'*) [ -n "$number" ] && echo "$number" ;;
  *'services list'*) echo "$apis" ;;
  *iam.allowedPolicyMemberDomains*) [ -n "$domains" ] && echo "$domains" ;;
  *run.managed.requireInvokerIam*) echo "$requireInvoker" ;;
  *run.allowedIngress*) echo "$ingress" ;;
  *org-policies*) echo '{}' ;;
  *'firestore databases'*) [ -n "$database" ] && echo "$database" ;;
esac`,
    curl: `echo "$*" >>"$CALLS"; cat >/dev/null
case "$*" in *cloudbilling*) echo "$budgets" ;; *testIamPermissions*) [ -z "$unreachable" ] || exit 6; echo "$granted" ;; *firebase*) echo "$firebase" ;; esac`,
    terraform: 'echo "$terraform"',
  };
  for (const [name, text] of Object.entries(programs)) {
    await writeFile(join(bin, name), `#!/bin/bash\n${text}\n`);
    await chmod(join(bin, name), 0o755);
  }
  const granted = JSON.stringify({ permissions: permissions.filter((permission) => permission !== answers.lacks) });
  const env = { ...answers, granted, CALLS: join(bin, 'calls'), PATH: `${bin}:${process.env.PATH}` };
  const result = await run('bash', [SCRIPT, 'gateway-test'], env);
  return { ...result, fixes: result.stdout.match(/^fix .*$/gm) ?? [] };
}

function run(program: string, args: string[], env: NodeJS.ProcessEnv): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve) => {
    execFile(program, args, { env }, (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout }),
    );
  });
}

it('preflight finds nothing in a project that is ready', async () => {
  const { code, fixes, stdout } = await preflight();
  expect(fixes).toEqual([]);
  expect(code).toBe(0);
  expect(stdout).toContain('ready for terraform apply');
});

it.each<readonly [string, Partial<typeof READY>, string, string]>([
  ['no login', { account: '' }, 'gcloud has no active login', 'gcloud auth login'],
  ['no credentials for Terraform', { token: '' }, 'Terraform has no credentials', 'application-default login'],
  ['an old Terraform', { terraform: 'Terraform v1.10.5' }, 'found 1.10.5', 'developer.hashicorp.com'],
  ['no such project', { number: '' }, 'gateway-test is not there', 'gcloud projects create gateway-test'],
  ['no billing', { billing: 'False' }, 'billing is not enabled', 'gcloud billing projects link gateway-test'],
  [
    'an API that is off',
    { apis: 'serviceusage.googleapis.com' },
    'cloudresourcemanager is not',
    'gcloud services enable',
  ],
  [
    'rights that could not be read',
    { unreachable: 'yes' },
    'rights of the deployer could not be read',
    'application-default login',
  ],
  ['a right that is missing', { lacks: 'run.services.setIamPolicy' }, 'roles/run.admin', 'add-iam-policy-binding'],
  [
    'domain-restricted sharing',
    { domains: '{"spec": {"rules": [{"values": {"allowedValues": ["C012345"]}}]}}' },
    'refuses allUsers',
    'invoker_check = "disabled"',
  ],
  [
    'no way to be public',
    {
      domains: '{"spec": {"rules": [{"values": {"allowedValues": ["C012345"]}}]}}',
      requireInvoker: '{"spec": {"rules": [{"enforce": true}]}}',
    },
    'no endpoint can be public',
    'excepted from run.managed.requireInvokerIam',
  ],
  [
    'internal ingress only',
    { ingress: '{"spec": {"rules": [{"values": {"allowedValues": ["internal"]}}]}}' },
    'refuses public ingress (run.allowedIngress)',
    'set domain',
  ],
  ['a database in Datastore mode', { database: 'DATASTORE_MODE' }, 'in Datastore mode', 'set database'],
])('preflight names %s and what to do', async (_, change, finding, remedy) => {
  const { code, fixes, stdout } = await preflight(change);
  expect(code).toBe(1);
  expect(fixes).toHaveLength(1);
  expect(fixes[0]).toContain(finding);
  expect(stdout).toContain(remedy);
});

it('preflight names the member as its kind, and notes the rights that only networks need', async () => {
  const account = 'deployer@p.iam.gserviceaccount.com';
  const { stdout } = await preflight({ account, lacks: 'run.services.setIamPolicy' });
  expect(stdout).toContain(`--member=serviceAccount:${account} `);
  const { code, stdout: notes } = await preflight({ lacks: 'compute.networks.create' });
  expect(code).toBe(0);
  expect(notes).toContain('note  domain and sandbox_image also need rights of: roles/compute.networkAdmin');
});

it('preflight does not fail for optional requirements, or for what it may not read', async () => {
  const { code, stdout } = await preflight({ domains: '', firebase: '{}', database: 'FIRESTORE_NATIVE' });
  expect(code).toBe(0);
  expect(stdout).toContain('organisation policies could not be read');
  expect(stdout).toContain('firebase projects:addfirebase gateway-test');
  expect(stdout).toContain('terraform import google_firestore_database.gateway');
});

it('preflight shows the token to no other process', async () => {
  await preflight();
  const { stdout: calls } = await run('cat', [join(bin, 'calls')], process.env);
  expect(calls).toContain('testIamPermissions');
  expect(calls).not.toContain(READY.token);
});

it('preflight notes the right in the billing account that only a budget needs', async () => {
  expect((await preflight()).stdout).not.toContain('budget');
  const { code, stdout } = await preflight({ budgets: '{}' });
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /^note {2}budget .*add-iam-policy-binding 0X0X0X-0X0X0X-0X0X0X --member=user:me@example.com /m,
  );
});
