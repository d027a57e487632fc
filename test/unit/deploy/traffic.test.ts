// The traffic split of a canary and of the way back, with a substitute for gcloud that answers as Cloud Run does.
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { ROOT } from '../../support/fixtures/project.ts';

/** Runs the script where each service has these revisions, newest first, and this traffic. */
async function split(revisions: string, traffic: string, ...act: string[]): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), 'traffic-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const gcloud = `#!/bin/bash
case "$*" in
  *'revisions list --service=ws'*) ;;
  *'revisions list'*) printf '${revisions}' ;;
  *'services describe'*) printf '${traffic}' ;;
  *update-traffic*) echo "$*" >>"$CALLS" ;;
esac
`;
  await writeFile(join(directory, 'gcloud'), gcloud);
  await chmod(join(directory, 'gcloud'), 0o755);
  const env = { PATH: `${directory}:${process.env.PATH}`, CALLS: join(directory, 'calls') };
  await promisify(execFile)('bash', [join(ROOT, 'terraform/traffic.sh'), 'p', 'us-central1', ...act], { env });
  const calls = await readFile(env.CALLS, 'utf8').catch(() => '');
  return [...calls.matchAll(/update-traffic (\S+ \S+)/g)].map(([, call]) => call ?? '');
}

const all = (change: string): string[] => ['health', 'jsonrpc', 'webhook'].map((service) => `${service} ${change}`);

it('holds the traffic at the revision that serves, sends the new one a part, then all, and back', async () => {
  expect(await split('r2\\nr1\\n', '100 r2\\n', 'hold')).toEqual(all('--to-revisions=r2=100'));
  expect(await split('r3\\nr2\\n', '100 r2\\n', 'percent', '10')).toEqual(all('--to-revisions=r3=10,r2=90'));
  expect(await split('r3\\nr2\\n', '10 r3\\n90 r2\\n', 'percent', '50')).toEqual(all('--to-revisions=r3=50,r2=50'));
  expect(await split('r3\\nr2\\n', '50 r3\\n50 r2\\n', 'percent', '100')).toEqual(all('--to-latest'));
  expect(await split('r3\\nr2\\n', '10 r3\\n90 r2\\n', 'back')).toEqual(all('--to-revisions=r2=100'));
  expect(await split('r3\\nr2\\n', '100 r3\\n', 'back')).toEqual(all('--to-revisions=r2=100'));
});

it('leaves a service with one revision as it is', async () => {
  expect(await split('r1\\n', '100 r1\\n', 'percent', '10')).toEqual([]);
  expect(await split('r1\\n', '100 r1\\n', 'back')).toEqual([]);
});

it.each([[[]], [['percent']], [['percent', '0']], [['percent', '101']], [['hold', '5']], [['forward']]])(
  'refuses what it does not understand: %j',
  async (act) => {
    await expect(split('r1\\n', '100 r1\\n', ...act)).rejects.toMatchObject({ code: 64 });
  },
);
