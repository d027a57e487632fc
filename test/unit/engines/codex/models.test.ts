// Every model of the catalogue calls the tools of Codex directly, and cannot run a script that calls them.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { makeModelCatalog } from '../../../../shared/codex-host/app-server/model-catalog.ts';
import { codexProgram, setUpFixture, startConversation } from '../../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../../support/requirements.ts';

const Catalog = z.object({ models: z.array(z.object({ slug: z.string() })) });

describeWith('codex', 'the tools of Codex', () => {
  it('every model has the tools of Codex, also one without an entry in the catalogue, and no script instead', async () => {
    const home = await mkdtemp(join(tmpdir(), 'codex-models-'));
    const { models } = Catalog.parse(JSON.parse(await makeModelCatalog(codexProgram(), home)));
    await rm(home, { recursive: true });
    const fixture = await setUpFixture();
    const engine = fixture.machine();
    const slugs = [...models.map(({ slug }) => slug), 'gpt-without-entry'];
    for (const slug of slugs) await startConversation().prompt(engine, 'hello', { model: `codex/${slug}` });
    await fixture.close();
    const offered = new Map(fixture.api.requests.map(({ model, tools }) => [model, tools]));
    expect([...offered.keys()]).toEqual(slugs);
    const withCommands = expect.arrayContaining(['exec_command', 'write_stdin', 'view_image']);
    for (const [slug, tools] of offered) {
      expect({ slug, tools }).toEqual({ slug, tools: withCommands });
      expect({ slug, hasScript: tools.includes('exec') }).toEqual({ slug, hasScript: false });
      // Codex has no patches for a model without an entry.
      expect({ slug, hasPatches: tools.includes('apply_patch') }).toEqual({
        slug,
        hasPatches: slug !== 'gpt-without-entry',
      });
    }
  });
});
