// `codex-gateway` as a process prints the answer and nothing else to stdout, ends with the exit code of the outcome,
// and cancels the turn at the gateway on Ctrl-C.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTextWriter, startProgress } from '../../../functions/cli/output.ts';
import { createFixture, type Fixture, KEY } from '../../support/fixtures/gateway/client.ts';
import { programFile } from '../../support/fixtures/process/program-file.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(() => fixture.close());

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

function start(
  args: readonly string[],
  { env = {}, input }: { env?: Record<string, string>; input?: string } = {},
): Started {
  const child = spawn(process.execPath, [programFile('functions/cli/main.ts'), ...args], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      GATEWAY_URL: fixture.gateway.url,
      GATEWAY_KEY: KEY,
      ...env,
    },
    timeout: 15_000,
    killSignal: 'SIGKILL',
  });
  child.stdin.end(input);
  const exited = once(child, 'close');
  const ended = Promise.all([text(child.stdout), text(child.stderr), exited]).then(([stdout, stderr, [code]]) => {
    return { code, stdout, stderr } as Ended;
  });
  return { child, ended };
}

const cli = (...args: Parameters<typeof start>): Promise<Ended> => start(...args).ended;

describe('codex-gateway', () => {
  it('codex-gateway prints the text of an answer, and nothing else without a terminal', async () => {
    expect(await cli(['prompt', 'Hello there', '--session', 'cli'])).toEqual({
      code: 0,
      stdout: 'You said: Hello there\n',
      stderr: '',
    });
    const piped = await cli(['prompt', '--session', 'cli', '--ws'], { input: 'from [[count]] stdin\n' });
    expect(piped).toEqual({ code: 0, stdout: 'You said: from  stdin (3 messages)\n', stderr: '' });
  });

  it('codex-gateway edits the prompt after a message of the session', async () => {
    await cli(['prompt', 'first', '--session', 'edited']);
    await cli(['prompt', 'second', '--session', 'edited']);
    const edited = await cli(['prompt', 'third [[count]]', '--session', 'edited', '--after', '2']);
    expect(edited).toEqual({ code: 0, stdout: 'You said: third (3 messages)\n', stderr: '' });
    expect(await cli(['prompt', 'x', '--session', 'edited', '--after', '-1'])).toMatchObject({ code: 2 });
    expect(await cli(['prompt', 'x', '--session', 'edited', '--after', '99'])).toMatchObject({ code: 5 });
    expect(await cli(['rpc.discover', '--after', '2'])).toMatchObject({ code: 2 });
  });

  it('codex-gateway names the models to call if the one before fails', async () => {
    fixture.provider.behave(({ model }) => (model === 'next' ? { text: 'from the next' } : { status: 403 }));
    const models = ['--model', 'anthropic/first', '--fallback', 'anthropic/second', '--fallback', 'anthropic/next'];
    const answered = await cli(['prompt', 'Hello', ...models]);
    fixture.provider.behave();
    expect(answered).toEqual({ code: 0, stdout: 'from the next\n', stderr: '' });
    expect(await cli(['rpc.discover', '--fallback', 'a/b'])).toMatchObject({ code: 2 });
  });

  it('codex-gateway sends images and the schema of the answer from files', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'cli-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const [image, schema, notJson] = ['a.PNG', 's.json', 'n.json'].map((name) => join(directory, name));
    const bytes = Buffer.from('89504e470d0a1a0a0000000d', 'hex');
    writeFileSync(`${image}`, bytes);
    writeFileSync(`${schema}`, '{"type":"array","items":{"type":"integer"}}');
    writeFileSync(`${notJson}`, '{');
    const files = ['--image', `${image}`, '--schema', `${schema}`];
    fixture.provider.behave(() => ({ text: '{"value":[1]}' }));
    expect(await cli(['prompt', 'What?', ...files])).toEqual({ code: 0, stdout: '[1]\n', stderr: '' });
    const body = JSON.stringify(fixture.provider.requests.at(-1)?.body);
    expect(body).toContain(bytes.toString('base64'));
    expect(await cli(['prompt', ...files])).toMatchObject({ code: 0, stdout: '[1]\n' });
    fixture.provider.behave();
    for (const args of [
      ['prompt', 'x', '--schema', `${notJson}`],
      ['prompt', 'x', '--schema', 'missing.json'],
      ['prompt', 'x', '--image', `${schema}`],
      ['rpc.discover', '--image', `${image}`],
    ])
      expect(await cli(args), args.join(' ')).toMatchObject({ code: 2 });
    // The gateway refuses it before anything is called.
    const { calls } = fixture.provider;
    writeFileSync(`${notJson}`, '{"type":"list"}');
    const refused = await cli(['prompt', 'x', '--schema', `${notJson}`]);
    expect(refused).toMatchObject({ code: 5, stderr: expect.stringContaining('is not a JSON Schema: type must be') });
    expect(fixture.provider.calls).toBe(calls);
  });

  it('codex-gateway names a file that is missing or too large, of which it reads no more than a gateway accepts', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'cli-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const [endless, large] = ['endless.png', 'large.png'].map((name) => join(directory, name));
    symlinkSync('/dev/zero', `${endless}`);
    writeFileSync(`${large}`, Buffer.alloc(400 << 10));
    const messages: readonly (readonly [args: readonly string[], message: string])[] = [
      [['--image', `${endless}`], `${endless} is larger than 675 KiB`],
      [['x', '--schema', `${endless}`], `${endless} is larger than 1024 KiB`],
      [[`@${endless}`], `${endless} is larger than 1024 KiB`],
      [['--image', `${large}`, '--image', `${large}`], 'the images are larger than 675 KiB'],
      [['--image', 'missing.png'], 'missing.png does not exist'],
      [['x', '--schema', 'missing.json'], 'missing.json does not exist'],
      [['@missing.txt'], 'missing.txt does not exist'],
      [['x', '--schema', directory], `cannot read ${directory}`],
    ];
    for (const [args, message] of messages) {
      const { code, stderr } = await cli(['prompt', ...args]);
      expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(message) });
    }
  });

  it('codex-gateway prints the result of any method as JSON', async () => {
    const { code, stdout } = await cli(['conversation.status', '{"session_id": "missing"}']);
    expect({ code, result: JSON.parse(stdout) }).toEqual({
      code: 0,
      result: { status: 'not_found', session_id: 'missing' },
    });
  });

  it('codex-gateway exports everything of an owner to one NDJSON file, and erases it to the end', async () => {
    const text = 'x'.repeat(700_000);
    for (const session of ['export-0', 'export-1'])
      expect((await cli(['prompt', '--session', session], { input: text })).code).toBe(0);
    const { code, stdout } = await cli(['owner.export', '{"limit": 2}']);
    expect(code).toBe(0);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const sessions = lines.flatMap(({ type, session_id }) => (type === 'session' ? [session_id] : []));
    expect(sessions).toEqual(expect.arrayContaining(['export-0', 'export-1']));
    expect(lines.filter(({ type, piece }) => type === 'message' && piece === 1)).toHaveLength(4);
    const keyId = JSON.parse((await cli(['auth.limits'])).stdout).key_id;
    expect(await cli(['owner.erase', '{"confirm": "someone-else"}'])).toMatchObject({ code: 5 });
    const erased = await cli(['owner.erase', JSON.stringify({ confirm: keyId })]);
    expect({ code: erased.code, last: JSON.parse(erased.stdout.trimEnd().split('\n').at(-1) ?? '') }).toMatchObject({
      code: 0,
      last: { owner: keyId, done: true },
    });
    expect(JSON.parse((await cli(['conversation.list'])).stdout).conversations).toEqual([]);
  });

  it('codex-gateway with --json prints every message, the error too', async () => {
    const { code, stdout } = await cli(['prompt', '[[chunks 3]]', '--json']);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(code).toBe(0);
    expect(lines.slice(0, -1).map(({ method, params }) => [method, params.seq])).toEqual(
      lines.slice(0, -1).map((_, index) => ['conversation.event', index + 1]),
    );
    expect(lines.at(-1)).toMatchObject({ jsonrpc: '2.0', result: { content: '0 1 2 ' } });
    const failed = await cli(['no.such', '--json']);
    expect(JSON.parse(failed.stdout)).toMatchObject({ error: { code: -32601, data: { reason: 'method_not_found' } } });
  });

  it.each<readonly [number, string, string[], Record<string, string>, RegExp]>([
    [0, 'help', ['--help'], {}, /^$/],
    [2, 'no method', [], {}, /the method is missing/],
    [2, 'an unknown option', ['prompt', 'x', '--frobnicate'], {}, /frobnicate/],
    [2, 'params that are not JSON', ['conversation.status', '{session'], {}, /not valid JSON/],
    [
      2,
      'no key for a gateway elsewhere',
      ['rpc.discover'],
      { GATEWAY_URL: 'https://gateway.example', GATEWAY_KEY: '' },
      /GATEWAY_KEY/,
    ],
    [
      2,
      '--ws on a Node without a WebSocket',
      ['prompt', 'x', '--ws'],
      { NODE_OPTIONS: '--no-experimental-websocket' },
      /--ws needs Node 22/,
    ],
    [3, 'a wrong key', ['conversation.list'], { GATEWAY_KEY: 'wrong' }, /unauthorized/],
    [5, 'a missing session', ['conversation.history', '{"session_id": "none"}'], {}, /not_found.*\(request req_/],
    [5, 'params the gateway refuses', ['conversation.status', '{}'], {}, /invalid_params[\s\S]*session_id/],
    [6, 'a model that breaks off', ['prompt', '[[cut]]'], {}, /upstream_error/],
    [
      7,
      'no gateway there',
      ['exec', '{"command": "true"}'],
      { GATEWAY_URL: 'http://127.0.0.1:9' },
      /network: .* at http:\/\/127\.0\.0\.1:9$/m,
    ],
  ])('codex-gateway ends with %i for %s', async (expected, _name, args, env, message) => {
    const { code, stderr } = await cli(args, { env });
    expect(stderr).toMatch(message);
    expect(code).toBe(expected);
    expect(stderr).not.toContain('    at ');
  });

  it('codex-gateway ends with 4 when the limit is used up and will be for longer than it may wait', async () => {
    const limited = await createFixture({ GATEWAY_LIMITS: '1/day' });
    const env = { GATEWAY_URL: limited.gateway.url };
    expect((await cli(['conversation.list'], { env })).code).toBe(0);
    const { code, stderr } = await cli(['conversation.list'], { env });
    await limited.close();
    expect(stderr).toMatch(/rate_limited: .*; again in \d+ s/);
    expect(code).toBe(4);
  });

  it('codex-gateway cancels the turn on Ctrl-C and ends with 130', async () => {
    const requested = fixture.provider.next();
    const { child, ended } = start(['prompt', '[[hang]]', '--session', 'ctrl-c']);
    const request = await requested;
    if (child.stdout !== null) await once(child.stdout, 'data');
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 130, stderr: 'interrupted\n' });
    expect(await request.done).toMatchObject({ by: 'client' });
    const status = await fixture.client().call('conversation.status', { session_id: 'ctrl-c' });
    expect(status.status).toBe('cancelled');
  });

  it('codex-gateway stops quietly when its reader has enough', async () => {
    const { child, ended } = start(['prompt', '[[chunks 400 every 5]]', '--session', 'head']);
    if (child.stdout !== null) await once(child.stdout, 'data');
    // Its output will not be read to the end, as was to be.
    ended.catch(() => {});
    child.stdout?.destroy();
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    await fixture.client().call('conversation.cancel', { session_id: 'head' });
  });
});

describe('on a terminal', () => {
  const terminal = () => {
    const written: string[] = [];
    const write = (piece: string | Uint8Array): boolean => written.push(String(piece)) > 0;
    return { isTTY: true, write, written };
  };

  it('a model cannot drive the terminal', () => {
    const out = terminal();
    const writer = createTextWriter(out);
    writer.write('a\x1b]52;c;ZXZpbA==\x07b\tc\r\n\x9b2Jd');
    writer.end();
    expect(out.written.join('')).toBe('a]52;c;ZXZpbA==b\tc\n2Jd\n');
  });

  it('the progress line shows the current activity and is erased', async () => {
    const out = terminal();
    const drawn = new Promise<void>((resolve) => {
      const { write } = out;
      out.write = (piece) => {
        resolve();
        return write(piece);
      };
    });
    const progress = startProgress(out);
    progress.show('cargo\x1b[2J test');
    await drawn;
    progress.end();
    progress.end();
    expect(out.written[0]).toMatch(/0 s {2}cargo\[2J test$/);
    expect(out.written.filter((piece) => piece === '\r\x1b[K')).toHaveLength(1);
    expect(out.written.at(-1)).toBe('\r\x1b[K');
  });
});
