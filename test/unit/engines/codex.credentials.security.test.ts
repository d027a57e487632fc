// The provider's credential is nowhere in the sandbox while Codex works with it: not in the memory, environment,
// arguments or files of any process there.
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EXIT_PORT } from '../../../shared/codex-host/exit.ts';
import {
  API_KEY,
  appServers,
  descendants,
  type Fixture,
  setUpFixture,
  startConversation,
} from '../../support/fixtures/codex.ts';
import { describeWith } from '../../support/requirements.ts';

const PROMPT = 'the word of this conversation is xylophone-4711';

describeWith('codex', 'the credential of a codex turn', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await setUpFixture();
  });
  afterAll(() => fixture.close());

  it('is in no process of the sandbox while a turn runs, and in none of its files', async () => {
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

  it('is used for no request of a command: none reaches the exit of Codex, nor any port of the machine', async () => {
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

/** What a process holds, where this user may read it. */
function placesOf(pid: number): (readonly [string, Buffer])[] {
  const texts = ['environ', 'cmdline'].map((name) => [`${pid} ${name}`, readFileSync(`/proc/${pid}/${name}`)] as const);
  return [...texts, ...(process.getuid?.() === 0 ? memoryOf(pid) : [])];
}

/** The writable memory of a process, region by region. */
function memoryOf(pid: number): (readonly [string, Buffer])[] {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    return readFileSync(`/proc/${pid}/maps`, 'utf8')
      .split('\n')
      .flatMap((line) => {
        const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
        const start = Number.parseInt(from, 16);
        const bytes = Buffer.alloc(from === '' ? 0 : Number.parseInt(to, 16) - start);
        return [[`${pid} ${line}`, bytes.subarray(0, readAll(memory, bytes, start))] as const];
      });
  } finally {
    closeSync(memory);
  }
}

/** The bytes that could be read: a region may end before its end, or be gone. */
function readAll(file: number, bytes: Buffer, start: number): number {
  let length = 0;
  try {
    while (length < bytes.length) {
      const read = readSync(file, bytes, length, Math.min(bytes.length - length, 1 << 20), start + length);
      if (read === 0) break;
      length += read;
    }
  } catch {
    // The region cannot be read, such as the kernel's own.
  }
  return length;
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((file) => lstatSync(file, { throwIfNoEntry: false })?.isFile() === true);
}
