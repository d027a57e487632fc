// A sandbox that an attacker controls: the gateway side takes nothing from it but answers to what it has requested, and
// a call with an answer that is not valid fails, and nothing else does.
import { randomUUID } from 'node:crypto';
import { afterEach, expect, it } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import { createRemoteCodex } from '../../../shared/sandbox-link/client/codex.ts';
import { createRemoteCommands } from '../../../shared/sandbox-link/client/commands.ts';
import { createTerminalEndings } from '../../../shared/sandbox-link/client/terminal-endings.ts';
import { createRemoteTerminals } from '../../../shared/sandbox-link/client/terminals.ts';
import type { Handlers, Link } from '../../../shared/sandbox-link/link/link.ts';
import { createLinkKeeper, type LinkKeeper } from '../../../shared/sandbox-link/link/link-keeper.ts';
import { RunParams, TerminalWatchParams } from '../../../shared/sandbox-link/messages.ts';
import type { TerminalEnding } from '../../../shared/terminals/terminals.ts';
import { startLinkServer, TOKEN } from '../../support/fixtures/sandbox-link.ts';

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

const options = (more: object = {}) => ({
  signal: new AbortController().signal,
  timeoutMs: 1_000,
  outputBytesMax: 1_000,
  ...more,
});
const ANSWER = { exit_code: 0, timed_out: false, truncated: false, is_full: false, notice: '', duration_ms: 1 };
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

it('a command with more output than was asked for fails at once', async () => {
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

it('a terminal whose stream has what is no frame is not watched any more', async () => {
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
