// The gateway accepts only responses to its own requests from a sandbox that an attacker controls. An invalid response
// fails the call that it answers, and no other call.
import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import { createRemoteCodex } from '../../../shared/sandbox-link/client/codex.ts';
import { createRemoteCommands } from '../../../shared/sandbox-link/client/commands.ts';
import { eraseOver } from '../../../shared/sandbox-link/client/erase.ts';
import { createRemoteStdioServers } from '../../../shared/sandbox-link/client/stdio-servers.ts';
import { createTerminalEndings } from '../../../shared/sandbox-link/client/terminal-endings.ts';
import { createRemoteTerminals } from '../../../shared/sandbox-link/client/terminals.ts';
import { createLinkKeeper, type LinkKeeper } from '../../../shared/sandbox-link/link/connect/link-keeper.ts';
import type { Handlers, Link } from '../../../shared/sandbox-link/link/link.ts';
import { RunParams, TerminalWatchParams } from '../../../shared/sandbox-link/messages.ts';
import type { TerminalEnding } from '../../../shared/terminals/terminals.ts';
import { violations } from '../../support/fixtures/sandbox/link-violations.ts';
import { startLinkServer, startRawServer, TOKEN } from '../../support/fixtures/sandbox/sandbox-link.ts';

const log = createLogger({ format: 'json', write: () => {} });
const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function connect(onSandbox: Handlers, onGateway: Handlers = {}): Promise<{ keeper: LinkKeeper; sandbox: Link }> {
  const { promise: opened, resolve } = Promise.withResolvers<Link>();
  const server = await startLinkServer({ handlers: onSandbox, onLink: resolve });
  const headers = async () => ({ Authorization: TOKEN });
  const keeper = createLinkKeeper({ url: server.proxy.url, headers, handlers: onGateway, log });
  ends.push(server.stop, () => keeper.close());
  await keeper.open();
  return { keeper, sandbox: await opened };
}

/** A link to a sandbox side by hand, and a keeper that opens the next one. */
async function connectRaw(onGateway: Handlers = {}) {
  const server = await startRawServer();
  const headers = async () => ({ Authorization: TOKEN });
  const keeper = createLinkKeeper({ url: server.url, headers, handlers: onGateway, log });
  ends.push(
    async () => server.stop(),
    () => keeper.close(),
  );
  const link = await keeper.open();
  return { server, keeper, link, sandbox: await server.next() };
}

const options = (more: object = {}) => ({
  signal: new AbortController().signal,
  timeoutMs: 1_000,
  outputBytesMax: 1_000,
  ...more,
});
const ANSWER = { exit_code: 0, timed_out: false, truncated: false, is_full: false, notice: '', duration_ms: 1 };
const SIZE = { cols: 80, rows: 24 };
const IGNORE = { output() {}, exit() {} };
const command = { keyId: 'a', argv: ['true'] } as const;

it.each([
  ['nothing', null],
  ['an exit code that none has', { ...ANSWER, exit_code: 1e9 }],
  ['a text without bound', { ...ANSWER, notice: 'x'.repeat(10_000) }],
])('a command that is answered with %s fails, and may have had an effect', async (_, answer) => {
  const { keeper } = await connect({ 'command.run': async () => answer });
  await expect(createRemoteCommands(keeper).run(command, options())).rejects.toMatchObject({
    reason: 'unavailable',
    retryable: false,
    data: { may_have_effect: true },
  });
});

it('a command with more output than the requested maximum fails immediately', async () => {
  const { keeper } = await connect({
    'command.run': (params, { link, signal }) => {
      const io = link.takeStream(RunParams.parse(params).io);
      io.write(Buffer.alloc(2_000));
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });
  await expect(createRemoteCommands(keeper).run(command, options())).rejects.toMatchObject({
    message: expect.stringContaining('not valid'),
  });
});

it('a terminal whose stream contains an invalid frame is no longer watched', async () => {
  const { promise: reset, resolve } = Promise.withResolvers<void>();
  const { keeper } = await connect({
    'terminal.watch': async (params, { link }) => {
      const output = link.takeStream(TerminalWatchParams.parse(params).output);
      output.once('close', resolve);
      output.write(Buffer.alloc(64, 0xff));
      return null;
    },
  });
  const terminals = createRemoteTerminals({ keeper, onStart: () => {} });
  const received: unknown[] = [];
  const watcher = {
    output: (piece: unknown) => void received.push(piece),
    exit: (code: number) => void received.push(code),
  };
  await terminals.watch({ owner: 'a', sessionId: 's' }, watcher, 0);
  await reset;
  expect(received).toEqual([]);
});

it('the end of a terminal that this process did not start is not reported', () => {
  const reported: TerminalEnding[] = [];
  const endings = createTerminalEndings((ending) => reported.push(ending));
  const ended = { owner: 'a', session: 's', exit_code: 1, duration_ms: 1 };
  endings.ended(ended);
  expect(reported).toEqual([]);
  endings.started({ owner: 'a', sessionId: 's' }, { shell: undefined, cwd: undefined, env: {}, requestId: 'req_1' });
  endings.ended({ ...ended, request_id: 'req_of_another' });
  endings.ended(ended);
  expect(reported).toEqual([{ owner: 'a', sessionId: 's', requestId: 'req_1', argv: [], exitCode: 1, durationMs: 1 }]);
});

it('a request to a provider counts only for a Codex process that was opened, and one process serves one owner', async () => {
  const processId = randomUUID();
  let isNew = true;
  const { promise: waiting } = Promise.withResolvers<null>();
  let keeper: LinkKeeper | undefined;
  const codex = createRemoteCodex(() => keeper as LinkKeeper);
  const connected = await connect(
    {
      'codex.open': async () => {
        const answer = { session: randomUUID(), process_id: processId, is_new: isNew };
        isNew = false;
        return answer;
      },
      'codex.wait': () => waiting,
    },
    codex.handlers,
  );
  keeper = connected.keeper;
  const { sandbox } = connected;
  const ask = (): Promise<unknown> => {
    const [body, answer] = [sandbox.openStream(), sandbox.openStream()];
    for (const stream of [body, answer]) stream.end().resume();
    const head = { method: 'POST', path: '/responses', headers: {} };
    return sandbox.request('provider.request', { process_id: processId, ...head, body: body.id, answer: answer.id });
  };
  await expect(ask()).rejects.toMatchObject({ reason: 'not_found' });
  const signal = new AbortController().signal;
  const session = await codex.host.open('a', signal);
  await expect(ask()).rejects.toMatchObject({ reason: 'not_found' });
  session.onRequest((_request, answer) => {
    answer.writeHead(401, {});
    answer.body.end();
  });
  expect(await ask()).toEqual({ status: 401, headers: {} });
  await expect(codex.host.open('b', signal)).rejects.toMatchObject({ reason: 'unavailable' });
});

it.each(violations(2))(
  'the link of a sandbox is ended, with the calls of that link, when it sends %s',
  async (_, send, code) => {
    let running = 0;
    const wait: Handlers[string] = (_params, { signal }) => {
      running++;
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          running--;
          reject(signal.reason);
        });
      });
    };
    const { server, keeper, link, sandbox } = await connectRaw({ wait });
    const call = link.request('command.run', {});
    call.catch(() => {});
    send(sandbox);
    expect(await sandbox.closed).toBe(code);
    await expect(call).rejects.toMatchObject({ reason: 'unavailable' });
    expect(running).toBe(0);
    // The next call opens another one.
    const next = (await keeper.open()).request('command.run', {});
    const other = await server.next();
    const { id } = (await other.next()) ?? {};
    other.control({ id, result: 1 });
    expect(await next).toBe(1);
  },
);

it('answers of a sandbox without a request, and second answers to one, are ignored', async () => {
  const { link, sandbox } = await connectRaw();
  const calls = [link.request('command.run', 1), link.request('command.run', 2)];
  const requests = [await sandbox.next(), await sandbox.next()];
  for (const id of [77, -1, 1e300, 'one', null, undefined]) sandbox.control({ id, result: 'foreign' });
  sandbox.control({ method: 'link.cancel', params: { id: 9 } });
  for (const request of requests) {
    sandbox.control({ id: request?.id, result: request?.params });
    sandbox.control({ id: request?.id, result: 'again' });
  }
  expect(await Promise.all(calls)).toEqual([1, 2]);
});

it('an error of a sandbox has a reason of the table, or is internal', async () => {
  const { link, sandbox } = await connectRaw();
  for (const [data, reason] of [
    [{ reason: 'conflict', retryable: 'yes', retry_after_ms: -1 }, 'conflict'],
    [{ reason: '__proto__' }, 'internal'],
    [{ reason: ['conflict'] }, 'internal'],
    [null, 'internal'],
  ]) {
    const call = link.request('command.run', {});
    const request = await sandbox.next();
    sandbox.control({ id: request?.id, error: { code: 'none', message: ['x'], data } });
    const error: unknown = await call.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ reason, retryAfterMs: undefined });
  }
});

it('requests of a sandbox beyond the bound are refused, those for streams that are not open or taken too', async () => {
  const process_id = randomUUID();
  const codex = createRemoteCodex(() => {
    throw new Error('not called');
  });
  const { sandbox } = await connectRaw(codex.handlers);
  const head = { process_id, method: 'POST', path: '/responses', headers: {}, body: 2, answer: 2 };
  for (const more of [
    {},
    { method: 'post' },
    { path: 'x'.repeat(8_193) },
    { headers: { 'a b': [] } },
    { headers: { a: ['x\r\ny: z'] } },
    { headers: Object.fromEntries(Array.from({ length: 129 }, (_, n) => [`h${n}`, []])) },
    { process_id: '../x' },
    { owner: 'b' },
  ]) {
    sandbox.control({ id: 1, method: 'provider.request', params: { ...head, ...more } });
    const answer = await sandbox.next();
    const reason = Object.keys(more).length === 0 ? 'not_found' : 'invalid_params';
    expect(answer).toMatchObject({ id: 1, error: { data: { reason } } });
  }
  for (const method of ['command.run', 'terminal.start', 'store.get', 'link.none', '__proto__', 'constructor']) {
    sandbox.control({ id: 1, method, params: {} });
    expect(await sandbox.next()).toMatchObject({ id: 1, error: { code: -32601 } });
  }
});

describe('a sandbox that does not answer', () => {
  const starts: Handlers = {
    'server.start': async () => ({ handle: randomUUID() }),
    'codex.open': async () => ({ session: randomUUID(), process_id: randomUUID(), is_new: true }),
  };
  /** Passes the time for the calls of this side alone. */
  afterEach(() => void vi.useRealTimers());
  const SILENT = { reason: 'unavailable', retryable: false, data: { may_have_effect: true } };
  const handle = { owner: 'a', sessionId: 's' };
  const request = { shell: undefined, cwd: undefined, env: {}, requestId: 'req_1' };
  const { signal } = new AbortController();

  /** With the methods of the received requests, in order of arrival. */
  async function connectSilent(answering: readonly string[] = []) {
    const asked: string[] = [];
    const methods = [
      ...['command.run', 'terminal.start', 'terminal.input', 'terminal.resize', 'terminal.close', 'terminal.watch'],
      ...['sandbox.erase', 'server.start', 'server.wait', 'server.kill', 'codex.open', 'codex.wait', 'codex.end'],
      ...['codex.read_rollout', 'codex.write_rollout'],
    ];
    const handlers: Handlers = Object.fromEntries(
      methods.map((method) => [
        method,
        async (params, context) => {
          asked.push(method);
          const start = answering.includes(method) ? starts[method] : undefined;
          return start === undefined ? new Promise(() => {}) : start(params, context);
        },
      ]),
    );
    return { ...(await connect(handlers)), asked };
  }
  /** The call is with the sandbox when its deadline passes. */
  async function expectEnd(call: Promise<unknown>, isAsked: () => boolean): Promise<unknown> {
    const ended = call.catch((error: unknown) => error);
    await expect.poll(isAsked).toBe(true);
    for (let passed = 0; passed < 60; passed++) await vi.advanceTimersByTimeAsync(1_000);
    return ended;
  }

  it.each<readonly [method: string, call: (keeper: LinkKeeper) => Promise<unknown>]>([
    ['command.run', (keeper) => createRemoteCommands(keeper).run(command, options())],
    ['terminal.start', (keeper) => createRemoteTerminals({ keeper, onStart() {} }).start(handle, request)],
    ['terminal.input', (keeper) => createRemoteTerminals({ keeper, onStart() {} }).input(handle, 'x')],
    ['terminal.resize', (keeper) => createRemoteTerminals({ keeper, onStart() {} }).resize(handle, SIZE)],
    ['terminal.close', (keeper) => createRemoteTerminals({ keeper, onStart() {} }).close(handle)],
    ['sandbox.erase', (keeper) => eraseOver(keeper, { ...handle, agoMs: 0 })],
    ['terminal.watch', (keeper) => createRemoteTerminals({ keeper, onStart() {} }).watch(handle, IGNORE, 0)],
    ['server.start', (keeper) => createRemoteStdioServers(keeper).start('a', { registered: 'x' }, signal)],
    ['codex.open', (keeper) => createRemoteCodex(() => keeper).host.open('a', signal)],
  ])('a sandbox that does not answer ends no call, so %s ends by itself', async (method, call) => {
    const { keeper, asked } = await connectSilent();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    expect(await expectEnd(call(keeper), () => asked.includes(method))).toMatchObject(SILENT);
  });

  it('a sandbox that does not answer does not keep a server or an app-server that this side ends', async () => {
    const { keeper, asked } = await connectSilent(['server.start', 'codex.open']);
    const server = await createRemoteStdioServers(keeper).start('a', { registered: 'x' }, signal);
    const codex = await createRemoteCodex(() => keeper).host.open('a', signal);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    expect(await expectEnd(server.kill(), () => asked.includes('server.kill'))).toBeUndefined();
    const path = 'sessions/2026/01/01/rollout-a.jsonl';
    const read = expectEnd(codex.readRollout(path), () => asked.includes('codex.read_rollout'));
    expect(await read).toMatchObject(SILENT);
    const written = expectEnd(codex.writeRollout(path, Buffer.alloc(1)), () => asked.includes('codex.write_rollout'));
    expect(await written).toMatchObject(SILENT);
    expect(await expectEnd(codex.end(), () => asked.includes('codex.end'))).toBeUndefined();
    expect(await Promise.all([server.exited, codex.exited])).toEqual([{ exitCode: 137 }, {}]);
  });
});
