// Codex calls the configured provider and no other host, as the kernel records it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Launcher } from '../../../../../shared/codex-host/launcher.ts';
import {
  descendants,
  type Fixture,
  setUpFixture,
  startConversation,
} from '../../../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../../../support/requirements.ts';

describeWith('strace', 'an app-server, traced', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await setUpFixture();
  });
  afterAll(() => fixture.close());

  it('a traced app-server connects to the relay only, from its start to its end', async () => {
    const traces: string[] = [];
    const traced: Launcher = {
      async spawn(spec, options) {
        const argv = ['/bin/sh', '-c', WAIT, 'wait', ...spec.argv] as const;
        const child = await fixture.sandbox.spawn({ ...spec, argv: [...argv] }, options);
        await once(child.stderr, 'data');
        const [pid] = descendants(
          (line) => line[0] === '/bin/sh' && line.includes('wait') && line.includes('app-server'),
        );
        traces.push(join(fixture.directory, `trace-${pid}`));
        await attach(String(pid), traces.at(-1) ?? '');
        const [fifo = ''] = filesBelow(fixture.directory, 'traced');
        await writeFile(fifo, 'go\n');
        rmSync(fifo);
        return child;
      },
    };
    const engine = fixture.machine({ launcher: traced });
    const conversation = startConversation();
    await conversation.prompt(engine, 'run echo hello');
    await conversation.prompt(engine, 'bye');
    const [configuration = ''] = filesBelow(fixture.directory, 'config.toml');
    const { port } = new URL(/base_url = "([^"]+)"/.exec(readFileSync(configuration, 'utf8'))?.[1] ?? '');
    await engine.close();
    const trace = traces.map((file) => readFileSync(file, 'utf8')).join('');
    const reached = trace.split('\n').filter((line) => /(connect|sendto|sendmsg)\(.*sin6?_port/.test(line));
    expect(reached.length).toBeGreaterThan(0);
    expect(reached.filter((line) => !line.includes(`sin_port=htons(${port})`))).toEqual([]);
    expect(fixture.api.strays).toEqual([]);
    expect(fixture.api.requests.map(({ path }) => path)).toEqual(Array(3).fill('/v1/responses'));
  });
});

/** Nothing in a sandbox may trace, so the tracer is outside: what is to be traced waits for it. */
const WAIT = '/usr/bin/mkfifo /tmp/traced && echo ready >&2 && read -r go < /tmp/traced && exec "$@"';

/** Resolves when all that the process does from now on is traced; the tracer ends with it. */
async function attach(pid: string, file: string): Promise<void> {
  const tracer = spawn('/usr/bin/strace', ['-f', '-e', 'trace=%network', '-o', file, '-p', pid]);
  await once(tracer.stderr, 'data');
  tracer.stderr.resume();
}

function filesBelow(directory: string, name: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(`/${name}`))
    .map((path) => join(directory, path));
}
