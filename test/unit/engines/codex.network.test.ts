// Whom Codex calls: the configured provider and nobody else, as the kernel sees it.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Launcher } from '../../../shared/engines/codex/launcher.ts';
import { describeWith } from '../../support/requirements.ts';
import { type Stage, setUpStage, startConversation } from './codex-harness.ts';

describeWith('strace', 'an app-server, traced', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await setUpStage();
  });
  afterAll(() => stage.close());

  it('connects to the relay to the provider and to nothing else, from its start to its end', async () => {
    const traced: Launcher = {
      spawn: (spec, options) => {
        const argv = [
          '/usr/bin/strace',
          '-f',
          '-qq',
          '-e',
          'trace=%network',
          '-o',
          '/home/user/trace',
          ...spec.argv,
        ] as const;
        return stage.sandbox.spawn({ ...spec, argv: [...argv] }, options);
      },
    };
    const engine = stage.machine({ launcher: traced });
    const conversation = startConversation();
    await conversation.ask(engine, 'run echo hello');
    await conversation.ask(engine, 'bye');
    const [configuration = ''] = filesBelow(stage.directory, 'config.toml');
    const { port } = new URL(/base_url = "([^"]+)"/.exec(readFileSync(configuration, 'utf8'))?.[1] ?? '');
    await engine.close();
    const trace = filesBelow(stage.directory, 'trace')
      .map((file) => readFileSync(file, 'utf8'))
      .join('');
    const reached = trace.split('\n').filter((line) => /(connect|sendto|sendmsg)\(.*sin6?_port/.test(line));
    expect(reached.length).toBeGreaterThan(0);
    expect(reached.filter((line) => !line.includes(`sin_port=htons(${port})`))).toEqual([]);
    expect(stage.api.strays).toEqual([]);
    expect(stage.api.requests.map(({ path }) => path)).toEqual(Array(3).fill('/v1/responses'));
  });
});

function filesBelow(directory: string, name: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(`/${name}`))
    .map((path) => join(directory, path));
}
