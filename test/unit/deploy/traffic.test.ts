// traffic.sh shifts traffic to a new revision in steps, and back. Gcloud is replaced by a substitute that answers as
// Cloud Run does.
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { ROOT } from '../../support/fixtures/project.ts';

/** Runs the script where each service has these revisions, newest first, and this traffic. */
async function split(revisions: string, traffic: string, ...act: string[]): Promise<string[]> {
  return (await shift(revisions, traffic, act)).calls;
}

/** As `split`, with standard input, and a service whose change is refused. */
async function shift(revisions: string, traffic: string, act: string[], { input = '', refused = 'none' } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'traffic-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const gcloud = `#!/bin/bash
case "$*" in
  *'revisions list --service=ws'*) ;;
  *'revisions list'*) printf '${revisions}' ;;
  *'services describe'*) printf '${traffic}' ;;
  *'update-traffic ${refused} '*) exit 1 ;;
  *update-traffic*) echo "$*" >>"$CALLS" ;;
esac
`;
  await writeFile(join(directory, 'gcloud'), gcloud);
  await chmod(join(directory, 'gcloud'), 0o755);
  const env = { PATH: `${directory}:${process.env.PATH}`, CALLS: join(directory, 'calls') };
  const running = promisify(execFile)('bash', [join(ROOT, 'terraform/traffic.sh'), 'p', 'us-central1', ...act], {
    env,
  });
  // A script that refuses its arguments ends without reading its input.
  running.child.stdin?.on('error', () => {});
  running.child.stdin?.end(input);
  const { code, stdout, stderr } = await running.then(
    (output) => ({ ...output, code: 0 }),
    (error) => {
      if (error.code === 64) throw error;
      return error as { code: number; stdout: string; stderr: string };
    },
  );
  const calls = await readFile(env.CALLS, 'utf8').catch(() => '');
  return {
    calls: [...calls.matchAll(/update-traffic (\S+ \S+)/g)].map(([, call]) => call ?? ''),
    code,
    stdout,
    stderr,
  };
}

const all = (change: string): string[] => ['health', 'jsonrpc', 'webhook'].map((service) => `${service} ${change}`);

it('traffic.sh keeps the traffic at the revision that serves, sends the new one a part, then all, and back', async () => {
  expect(await split('r2\\nr1\\n', '100 r2\\n', 'hold')).toEqual(all('--to-revisions=r2=100'));
  expect(await split('r3\\nr2\\n', '100 r2\\n', 'percent', '10')).toEqual(all('--to-revisions=r3=10,r2=90'));
  expect(await split('r3\\nr2\\n', '10 r3\\n90 r2\\n', 'percent', '50')).toEqual(all('--to-revisions=r3=50,r2=50'));
  expect(await split('r3\\nr2\\n', '50 r3\\n50 r2\\n', 'percent', '100')).toEqual(all('--to-latest'));
  expect(await split('r3\\nr2\\n', '10 r3\\n90 r2\\n', 'back')).toEqual(all('--to-revisions=r2=100'));
  expect(await split('r3\\nr2\\n', '100 r3\\n', 'back')).toEqual(all('--to-revisions=r2=100'));
});

it('traffic.sh leaves a service with one revision as it is', async () => {
  expect(await split('r1\\n', '100 r1\\n', 'percent', '10')).toEqual([]);
  expect(await split('r1\\n', '100 r1\\n', 'back')).toEqual([]);
});

it('traffic.sh sends nothing to an earlier release where an apply has made no new revision', async () => {
  expect(await split('r2\\nr1\\n', '100 r2\\n', 'percent', '10')).toEqual([]);
  expect(await split('r2\\nr1\\n', '100 r2\\n', 'percent', '100')).toEqual(all('--to-latest'));
});

it('traffic.sh restores what served before, whatever has changed since', async () => {
  const { stdout } = await shift('r2\\nr1\\n', '100 r2\\n', ['hold']);
  const { calls } = await shift('r3\\nr2\\n', '100 r3\\n', ['restore'], { input: stdout });
  expect(calls).toEqual(all('--to-revisions=r2=100'));
});

it('traffic.sh keeps nothing of a service that serves nothing', async () => {
  expect(await split('r1\\n', '', 'hold')).toEqual([]);
});

it('traffic.sh sends the other services back when one fails, and reports it', async () => {
  const { calls, code, stderr } = await shift('r2\\nr1\\n', '10 r2\\n90 r1\\n', ['back'], { refused: 'health' });
  expect(calls).toEqual(all('--to-revisions=r1=100').slice(1));
  expect(code).toBe(1);
  expect(stderr).toContain('health was not changed');
});

it.each([
  [[]],
  [['percent']],
  [['percent', '0']],
  [['percent', '101']],
  [['hold', '5']],
  [['restore', 'x']],
  [['forward']],
])('traffic.sh refuses invalid arguments: %j', async (act) => {
  await expect(split('r1\\n', '100 r1\\n', ...act)).rejects.toMatchObject({ code: 64 });
});
