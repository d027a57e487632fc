// The catalogue of an app-server equals the one in the installed Codex, except that every model calls its tools
// directly.
import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeModelCatalog } from '../../../shared/codex-host/app-server/model-catalog.ts';
import { codexProgram } from '../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('codex', 'the catalogue of models', () => {
  let home: string;
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'codex-models-'));
  });
  afterAll(() => rm(home, { recursive: true, force: true }));

  it('the catalogue is that of Codex, with tools that the models call directly and without instructions about exec', async () => {
    const text = await makeModelCatalog(codexProgram(), home);
    const env = { CODEX_HOME: home, TMPDIR: home };
    const own = execFileSync(codexProgram(), ['debug', 'models', '--bundled'], { cwd: home, env, maxBuffer: 16 << 20 });
    // So the gateway still needs a catalogue of its own.
    expect(own.toString()).toContain('"tool_mode":"code_mode_only"');
    expect(text).not.toMatch(/code_mode|functions\.exec\b/);
    expect(JSON.parse(text, withoutExec)).toEqual(JSON.parse(own.toString(), withoutExec));
  });

  it('the catalogue leaves no file', async () => {
    await makeModelCatalog(codexProgram(), home);
    expect(await readdir(home)).toEqual([]);
  });
});

/** Leaves the mode of a model out, and the lines of its instructions about `exec`. */
function withoutExec(key: string, value: unknown): unknown {
  if (key === 'tool_mode') return undefined;
  if (typeof value !== 'string') return value;
  return value
    .split('\n')
    .filter((line) => !/functions\.exec\b/.test(line))
    .join('\n');
}
