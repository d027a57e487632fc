// A Codex conversation loses no message when it is continued on another machine, by another engine, or after the end of
// its process.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  appServers,
  describeCodex,
  type Fixture,
  setUpFixture,
  startConversation,
  textsIn,
} from '../../../support/fixtures/sandbox/codex.ts';

describeCodex('a conversation with Codex', (place) => {
  let fixture: Fixture;
  let here: ReturnType<Fixture['machine']>;
  let there: ReturnType<Fixture['machine']>;
  beforeAll(async () => {
    fixture = await setUpFixture(place);
    here = fixture.machine();
    there = fixture.machine();
  });
  afterAll(() => fixture.close());

  /** Tool calls and their outputs that the model was shown last. */
  const callsShown = (): number =>
    fixture.api.requests.at(-1)?.input.filter(({ type }) => type === 'function_call_output').length ?? -1;

  it('a conversation with Codex continues in another CODEX_HOME after kill -9, with the results of its tools', async () => {
    const conversation = startConversation();
    await conversation.prompt(here, 'run echo remember me');
    const [pid] = appServers();
    process.kill(pid ?? 0, 'SIGKILL');
    await conversation.prompt(there, 'what did it print?');
    expect(callsShown()).toBe(1);
    expect(textsIn(fixture.api.requests.at(-1)).at(0)).toBe('run echo remember me');
    expect(textsIn(fixture.api.requests.at(-1)).at(-1)).toBe('what did it print?');
  });

  it('a conversation with Codex continues where everything was prepared before the first turn, and leaves no file behind', async () => {
    const directory = join(fixture.directory, 'warmed');
    const warmed = fixture.machine({ directory });
    const conversation = startConversation();
    await conversation.prompt(here, 'run echo remember me');
    await warmed.warm();
    await conversation.prompt(warmed, 'what did it print?');
    expect(callsShown()).toBe(1);
    expect(readdirSync(directory).filter((name) => /^(template|home)-/.test(name))).toHaveLength(2);
    await warmed.close();
    expect(readdirSync(directory)).toEqual(['tools']);
    expect(fixture.warnings).toEqual([]);
  });

  it('a conversation with Codex moves back and forth between machines', async () => {
    const conversation = startConversation();
    await conversation.prompt(here, 'run echo 1');
    await conversation.prompt(there, 'run echo 2');
    await conversation.prompt(here, 'run echo 3');
    await conversation.prompt(there, 'four');
    expect(callsShown()).toBe(3);
    const prompts = textsIn(fixture.api.requests.at(-1)).filter((text) => /^(run|four)/.test(text));
    expect(prompts).toEqual(['run echo 1', 'run echo 2', 'run echo 3', 'four']);
  });

  it('a conversation with Codex contains the turns that another engine answered, each once and in order', async () => {
    const conversation = startConversation();
    conversation.messages.push({ role: 'user', content: 'direct 1' }, { role: 'assistant', content: 'answer 1' });
    await conversation.prompt(here, 'codex 1');
    conversation.messages.push({ role: 'user', content: 'direct 2' }, { role: 'assistant', content: 'answer 2' });
    await conversation.prompt(here, 'codex 2');
    conversation.messages.push({ role: 'user', content: 'direct 3' }, { role: 'assistant', content: 'answer 3' });
    await conversation.prompt(there, 'codex 3');
    expect(textsIn(fixture.api.requests.at(-1))).toEqual(
      conversation.messages.slice(0, -1).map(({ content }) => content),
    );
  });

  it.each([
    ['is lost', () => undefined],
    ['is damaged', () => Buffer.from('not a thread')],
    ['has a rollout that Codex refuses', (bytes: Uint8Array) => zstdCompressSync(`${headOf(bytes)}\nnot a rollout\n`)],
    ['was saved by a later version', (bytes: Uint8Array) => zstdCompressSync(headOf(bytes).replace('"v":1', '"v":2'))],
    [
      'names a file elsewhere',
      (bytes: Uint8Array) => zstdCompressSync(headOf(bytes).replace('sessions/', '../../sessions/')),
    ],
  ])('a conversation with Codex starts from the messages when the saved thread %s', async (_, damage) => {
    const conversation = startConversation();
    await conversation.prompt(here, 'first');
    const { saved } = fixture.state;
    const damaged = damage(saved.get(conversation.id) ?? Buffer.of());
    if (damaged === undefined) saved.delete(conversation.id);
    else saved.set(conversation.id, damaged);
    await conversation.prompt(there, 'second');
    expect(textsIn(fixture.api.requests.at(-1))).toEqual(['first', 'You said: first', 'second']);
  });

  it('a conversation with Codex starts anew from what still fits when the thread is older than all of it', async () => {
    const conversation = startConversation();
    await conversation.prompt(here, 'old');
    conversation.messages.splice(0, 2, { role: 'user', content: 'late' }, { role: 'assistant', content: 'later' });
    await conversation.prompt(here, 'now', { trimmed: 40 });
    expect(textsIn(fixture.api.requests.at(-1))).toEqual(['late', 'later', 'now']);
  });

  it('a conversation with Codex starts from the messages when later ones were dropped, here and elsewhere, though the last one is the same', async () => {
    const conversation = startConversation();
    await conversation.prompt(here, 'first');
    await conversation.prompt(here, 'dropped');
    const [, , , answer] = conversation.messages;
    // Another engine has answered the edited prompt with the same words.
    conversation.messages.splice(2, 2, { role: 'user', content: 'edited' }, answer ?? { role: 'user', content: '' });
    for (const machine of [there, here, there]) {
      await conversation.prompt(machine, 'next', { branch: 'turn_edited' });
      const texts = textsIn(fixture.api.requests.at(-1));
      expect(texts).toEqual(conversation.messages.slice(0, -1).map(({ content }) => content));
      expect(texts).not.toContain('dropped');
    }
  });

  it('a conversation with Codex uses instructions only for the turns that have them', async () => {
    const conversation = startConversation();
    const instructed = (): string[] =>
      fixture.api.requests.at(-1)?.input.flatMap(({ role, text }) => (role === 'developer' ? [text] : [])) ?? [];
    await conversation.prompt(here, 'one', { instructions: 'Answer in rhymes.' });
    expect(instructed().at(-1)).toBe('Answer in rhymes.');
    await conversation.prompt(here, 'two', { instructions: 'Answer in rhymes.' });
    expect(instructed().filter((text) => text === 'Answer in rhymes.')).toHaveLength(1);
    await conversation.prompt(there, 'three');
    expect(instructed().at(-1)).toContain('no longer apply');
  });

  it('a conversation with Codex calls the model of each turn: another, the first again, and on another machine', async () => {
    const conversation = startConversation();
    const models: string[] = [];
    for (const [machine, model] of [
      [here, 'codex/gpt-6.1-sol'],
      [here, 'codex/gpt-5.5'],
      [here, 'codex/gpt-5.5'],
      [here, 'codex/gpt-6.1-sol'],
      [there, 'codex/gpt-5.5'],
      [there, 'codex/gpt-5.5'],
    ] as const) {
      await conversation.prompt(machine, 'which?', { model });
      models.push(`codex/${fixture.api.requests.at(-1)?.model}`);
    }
    const [sol, other] = ['codex/gpt-6.1-sol', 'codex/gpt-5.5'];
    expect(models).toEqual([sol, other, other, sol, other, other]);
  });

  it('a conversation with Codex continues a thread that version 1.2.0 saved, with another model', async () => {
    const conversation = startConversation();
    await conversation.prompt(here, 'run echo remember me', { model: 'codex/gpt-6.1-sol' });
    const bytes = fixture.state.saved.get(conversation.id) ?? Buffer.of();
    const whole = zstdDecompressSync(bytes).toString();
    expect(headOf(bytes)).toContain(',"models":["gpt-6.1-sol"]');
    fixture.state.saved.set(conversation.id, zstdCompressSync(whole.replace(',"models":["gpt-6.1-sol"]', '')));
    const warnings = fixture.warnings.length;
    await conversation.prompt(there, 'what did it print?', { model: 'codex/gpt-5.5' });
    expect(fixture.api.requests.slice(-2).map(({ model }) => model)).toEqual(['gpt-6.1-sol', 'gpt-5.5']);
    expect(fixture.warnings).toHaveLength(warnings);
  });

  it('a conversation with Codex calls on the account of the turn, and keeps the thread', async () => {
    const conversation = startConversation();
    await conversation.prompt(here, 'ours');
    const credential = { provider: 'openai', token: () => 'sk-of-the-caller' } as const;
    await conversation.prompt(here, 'mine', { credential });
    expect(fixture.api.requests.at(-1)?.authorization).toBe('Bearer sk-of-the-caller');
    const claims = Buffer.from('{"https://api.openai.com/auth":{"chatgpt_account_id":"acc-1"}}').toString('base64url');
    const token = `e30.${claims}.x`;
    await conversation.prompt(here, 'chatgpt', { credential: { provider: 'chatgpt', token: () => token } });
    expect(fixture.api.requests.at(-1)).toMatchObject({ authorization: `Bearer ${token}`, account: 'acc-1' });
    expect(fixture.api.requests.at(-1)?.path).toBe('/chatgpt/v1/responses');
    expect(textsIn(fixture.api.requests.at(-1)).filter((text) => !text.startsWith('You'))).toEqual([
      'ours',
      'mine',
      'chatgpt',
    ]);
  });
});

function headOf(bytes: Uint8Array): string {
  return zstdDecompressSync(bytes).toString().split('\n', 1)[0] ?? '';
}
