// The provider's credential is nowhere in the sandbox while Codex works with it: not in the memory, environment,
// arguments or files of any process there.
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EXIT_PORT } from '../../../../../shared/codex-host/app-server/exit.ts';
import { filesBelow, placesOf } from '../../../../support/fixtures/process/process-memory.ts';
import {
  API_KEY,
  appServers,
  descendants,
  type Fixture,
  setUpFixture,
  startConversation,
} from '../../../../support/fixtures/sandbox/codex.ts';
import { describeWith } from '../../../../support/requirements.ts';

const PROMPT = 'the word of this conversation is xylophone-4711';

describeWith('codex', 'the credential of a codex turn', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await setUpFixture();
  });
  afterAll(() => fixture.close());

  it('the credential of a codex turn is in no process of the sandbox while a turn runs, and in none of its files', async () => {
    const engine = fixture.machine();
    const conversation = startConversation();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    fixture.api.behave(() => ({ text: 'answer', gate }));
    const arrived = fixture.api.next();
    const answered = conversation.prompt(engine, PROMPT);
    expect((await arrived).authorization).toBe(`Bearer ${API_KEY}`);

    const pids = sandboxed();
    expect(pids).toEqual(expect.arrayContaining(appServers()));
    const found = (text: string): string[] =>
      pids.flatMap((pid) => placesOf(pid).flatMap(([place, bytes]) => (bytes.includes(text) ? [place] : [])));
    expect(found(API_KEY)).toEqual([]);
    // The search finds what is there.
    expect(found(PROMPT)).not.toEqual([]);
    const files = filesBelow(fixture.directory);
    expect(files.some((file) => file.endsWith('config.toml'))).toBe(true);
    expect(files.filter((file) => readFileSync(file).includes(API_KEY))).toEqual([]);
    open();
    await answered;
  });

  it('no command can use the credential: none reaches the relay of Codex or a port of the machine', async () => {
    const engine = fixture.machine();
    const { port } = new URL(fixture.api.url);
    fixture.api.behave(({ toolOutput }) =>
      toolOutput === undefined
        ? { call: 'exec_command', args: { cmd: tryPorts([EXIT_PORT, port]) } }
        : { text: toolOutput },
    );
    const { outcome } = await startConversation().prompt(engine, 'try');
    expect(outcome.content).toContain(`${EXIT_PORT} closed\n${port} closed\n`);
    expect(fixture.api.requests.every(({ authorization }) => authorization === `Bearer ${API_KEY}`)).toBe(true);
  });
});

const tryPorts = (ports: readonly (string | number)[]): string =>
  `bash -c 'for port in ${ports.join(' ')}; do (: > /dev/tcp/127.0.0.1/$port) 2>/dev/null && echo $port open || echo $port closed; done'`;

/** Pids of all processes in sandboxes: the descendants of bwrap. */
function sandboxed(): number[] {
  return descendants(() => true).filter((pid) => {
    const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    return name !== 'node' && name !== 'MainThread';
  });
}
