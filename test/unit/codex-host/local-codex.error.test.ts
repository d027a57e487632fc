// Codex that cannot run on a machine leaves nothing behind, and the error says what is missing.
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Launcher } from '../../../shared/codex-host/launcher.ts';
import { createLocalCodex } from '../../../shared/codex-host/local-codex.ts';
import { RpcError } from '../../../shared/errors.ts';
import { codexProgram, descendants } from '../../support/fixtures/sandbox/codex.ts';
import { createSandboxFixture, type SandboxFixture } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

const NEVER = new AbortController().signal;
const PREPARED = { directory: '/nowhere', warn() {} };

describeWith('codex', 'a Codex that does not start', () => {
  let fixture: SandboxFixture;
  beforeAll(async () => {
    fixture = await createSandboxFixture();
  });

  const failOpen = async (program: string, launcher: Launcher = fixture.sandbox) => {
    const directory = join(fixture.directory, `codex-${Math.random()}`);
    const codex = createLocalCodex({ ...PREPARED, launcher, program, directory });
    const error = await codex
      .hostFor('one')
      .open('owner', NEVER)
      .catch((failure: unknown) => failure);
    await codex.close();
    expect(readdirSync(directory).filter((name) => name.startsWith('home-'))).toEqual([]);
    expect(descendants(([file = '']) => file.includes('codex'))).toEqual([]);
    if (error instanceof RpcError) return error;
    throw new Error('it was opened');
  };

  const MODELS = `[ "$1" = debug ] && exec echo '{"models":[{"slug":"gpt-5"}]}'`;

  it.each([
    ['ends at once', `${MODELS}\necho it broke >&2; exit 3`],
    ['answers in another form', `${MODELS}\necho "{}"; sleep 60`],
    ['answers no line', `${MODELS}\nyes | tr -d "\\n"`],
    ['prints why it has no models', 'echo it broke >&2; exit 3'],
    ['prints models in another form', 'echo "{}"'],
    ['prints no end of its models', 'yes | tr -d "\\n"'],
  ])('a Codex that does not start is unavailable when it %s', async (_, script) => {
    const program = join(fixture.directory, 'program/bin/codex');
    mkdirSync(join(program, '..'), { recursive: true });
    writeFileSync(program, `#!/bin/sh\nPATH=/usr/bin:/bin\n${script}\n`);
    chmodSync(program, 0o755);
    const error = await failOpen(program);
    expect(error).toMatchObject({ reason: 'unavailable', message: 'Codex did not start' });
    if (script.includes('broke')) expect(String(error.cause)).toContain('it broke');
  });

  it('a Codex that does not start is refused where nothing can listen inside its sandbox', async () => {
    const launcher: Launcher = {
      spawn: async (spec, options) => ({
        ...(await fixture.sandbox.spawn(spec, options)),
        listener: Promise.reject(new Error('no listener')),
      }),
    };
    expect(await failOpen(codexProgram(), launcher)).toMatchObject({
      reason: 'sandbox_unavailable',
      message: expect.stringContaining('the gateway cannot listen in a sandbox'),
      data: { hint: expect.stringContaining(process.execPath) },
    });
  });
});

describe('a machine without Codex', () => {
  it('a missing Codex is refused with the command that installs it', async () => {
    const launcher: Launcher = { spawn: () => Promise.reject(new Error('not used')) };
    const codex = createLocalCodex({ ...PREPARED, launcher, program: '/nowhere/codex' });
    const host = codex.hostFor('one');
    expect(codex.version).toBeUndefined();
    expect(host.missing()).toMatch(/npm install --no-save @openai\/codex/);
    await host.warm();
    await expect(host.open('owner', NEVER)).rejects.toMatchObject({ reason: 'invalid_params' });
    await codex.close();
  });
});
