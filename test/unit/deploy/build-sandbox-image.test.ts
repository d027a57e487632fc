// The script that builds the sandbox service's image works on the Terraform state of this release and of earlier ones,
// whose outputs have other names. Terraform and gcloud are replaced by substitutes.
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { ROOT } from '../../support/fixtures/project.ts';

const REGISTRY = 'us-central1-docker.pkg.dev/p/gateway';
const OUTPUT = { account: 'projects/p/serviceAccounts/gateway-build', project: 'p' };

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'image-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  for (const name of ['terraform', 'bin', 'dist/sandbox']) await mkdir(join(directory, name), { recursive: true });
  await copyFile(join(ROOT, 'terraform/build-sandbox-image.sh'), join(directory, 'terraform/build-sandbox-image.sh'));
});

/** Runs the script where Terraform's state has only the output `name`. */
async function build(name: string, output: object, variables: Record<string, string> = {}) {
  const programs = {
    terraform: `[ "$3" = ${name} ] || exit 1; echo '${JSON.stringify(output)}'`,
    gcloud: `echo "$*" >>"$CALLS"; for each; do case $each in --config=*) cat "\${each#*=}" >>"$CALLS";; esac; done
[ "$1" = builds ] || echo sha256:abc`,
  };
  for (const [program, script] of Object.entries(programs)) {
    await writeFile(join(directory, 'bin', program), `#!/bin/sh\n${script}\n`);
    await chmod(join(directory, 'bin', program), 0o755);
  }
  const env = { ...variables, PATH: `${join(directory, 'bin')}:${process.env.PATH}`, CALLS: join(directory, 'calls') };
  const { stdout } = await promisify(execFile)('bash', ['terraform/build-sandbox-image.sh'], { cwd: directory, env });
  return { stdout, calls: await readFile(env.CALLS, 'utf8') };
}

it.each([
  ['this release', 'sandbox_image_build', 'sandbox', 'sandbox-image'],
  ['1.2.0', 'ws_image_build', 'ws', 'ws-image'],
])(
  'the script builds from the state of %s, and prints the line for the .tfvars file',
  async (_release, name, image, staging) => {
    await writeFile(join(directory, 'dist/sandbox/Dockerfile'), '');
    const output = { ...OUTPUT, image: `${REGISTRY}/${image}`, staging: `gs://p-gateway-source/${staging}` };
    const { stdout, calls } = await build(name, output);
    expect(stdout).toBe(`sandbox_image = "${REGISTRY}/sandbox@sha256:abc"\n`);
    expect(calls).toContain('builds submit ../dist/sandbox --project=p ');
    expect(calls).toContain('--gcs-source-staging-dir=gs://p-gateway-source/sandbox-image');
    expect(calls).toContain(`images: ['${REGISTRY}/sandbox:latest']`);
    expect(calls).toContain(`serviceAccount: '${OUTPUT.account}'`);
  },
);

it('the script can take base and builder from a mirror, by digest only', async () => {
  await writeFile(join(directory, 'dist/sandbox/Dockerfile'), '');
  const output = { ...OUTPUT, image: `${REGISTRY}/sandbox`, staging: 'gs://p-gateway-source/sandbox-image' };
  const digest = `sha256:${'0'.repeat(64)}`;
  const mirror = { BASE_IMAGE: `${REGISTRY}/node@${digest}`, BUILDER_IMAGE: `${REGISTRY}/docker@${digest}` };
  const { calls } = await build('sandbox_image_build', output, mirror);
  expect(calls).toContain(`name: '${mirror.BUILDER_IMAGE}'`);
  expect(calls).toContain(`args: [build, --build-arg, 'BASE_IMAGE=${mirror.BASE_IMAGE}', --tag, `);
  await expect(build('sandbox_image_build', output, { BASE_IMAGE: 'node:latest' })).rejects.toThrow('by digest');
});

it('a missing bundle or registry is refused with the command that must run first', async () => {
  await expect(build('sandbox_image_build', OUTPUT)).rejects.toThrow('run `npm run build` first');
  await writeFile(join(directory, 'dist/sandbox/Dockerfile'), '');
  await expect(build('another_output', OUTPUT)).rejects.toThrow('run `terraform apply` first');
});
