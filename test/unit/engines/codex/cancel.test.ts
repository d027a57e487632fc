// A cancelled turn of Codex is interrupted only while Codex starts no command, because Codex cannot end a command that
// it has not reported. The app-server is scripted; its requests to the provider pass the relay.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { PassThrough, Readable } from 'node:stream';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { queryObjects } from 'node:v8';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { CodexHost, ProviderListener } from '../../../../shared/codex-host/codex-host.ts';
import { createCodexEngine } from '../../../../shared/engines/codex/engine.ts';
import { createRequestedCommands } from '../../../../shared/engines/codex/relay/requested-commands.ts';
import type { Toolset } from '../../../../shared/engines/engine.ts';
import { RpcError } from '../../../../shared/errors.ts';
import {
  type ResponsesApi,
  type Step,
  startResponsesApi,
} from '../../../support/fakes/model-provider/responses-api.ts';

const turn = { threadId: 'thread-1', turnId: 'turn-1' };
const CALL: Step = { call: 'exec_command', args: { cmd: 'sleep 9' } };
/** The id that the provider gives to the call of its first answer. */
const CALL_ID = 'call_0';

let api: ResponsesApi;
const ends: (() => unknown)[] = [];
beforeEach(async () => {
  api = await startResponsesApi();
  ends.push(api.close);
});
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

/** An app-server in which one turn runs until it is interrupted. `log`: what happened to it, in order. */
function startAppServer() {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const exited = Promise.withResolvers<object>();
  const began = Promise.withResolvers<void>();
  const log: string[] = [];
  let token = '';
  let listener: ProviderListener = () => {};
  const send = (message: object): void => void stdout.write(`${JSON.stringify(message)}\n`);
  createInterface({ input: stdin }).on('line', (line) => {
    const { id, method, params } = JSON.parse(line);
    if (method === 'thread/start') token = params.config['model_providers.gateway.experimental_bearer_token'];
    if (method === 'turn/interrupt' || method === 'thread/backgroundTerminals/clean') log.push(method);
    send({ id, result: { thread: { id: turn.threadId, path: null }, turn: { id: turn.turnId } } });
    if (method === 'turn/start') began.resolve();
    if (method === 'turn/interrupt') complete();
  });
  const complete = (): void => {
    const ended = { id: turn.turnId, status: 'interrupted', error: null };
    send({ method: 'turn/completed', params: { threadId: turn.threadId, turn: ended } });
  };
  const host: CodexHost = {
    missing: () => undefined,
    warm: async () => {},
    open: async () => ({
      ...{ processId: 'process-1', stdin, stdout, stderr, exited: exited.promise },
      onRequest(given) {
        listener = given;
      },
      readRollout: async () => undefined,
      writeRollout: async () => {},
      release: () => {},
      async end() {
        log.push('end');
        exited.resolve({});
      },
    }),
  };
  return {
    host,
    log,
    began: began.promise,
    /** Codex reports an item of the turn. */
    report(method: string, item: object): void {
      log.push(method);
      send({ method, params: { ...turn, item } });
    },
    complete,
    die: () => exited.resolve({}),
    /** A request of Codex to the provider; returns the answer. */
    request(): PassThrough {
      const body = new PassThrough();
      const headers = { authorization: [`Bearer ${token}`] };
      const sent = Readable.from([Buffer.from('{"model":"gpt-5","input":[]}')]);
      listener({ method: 'POST', path: '/responses', headers, body: sent }, { writeHead: () => {}, body });
      return body;
    },
  };
}

/** A turn to which the provider answers with `step`; `answer` ends when all of it has reached Codex. */
async function startTurn(step: Step, tools?: Toolset) {
  const appServer = startAppServer();
  const engine = createCodexEngine({
    host: appServer.host,
    baseUrls: { gateway: `${api.url}/v1`, chatgpt: `${api.url}/v1` },
    apiKey: 'sk-test',
    state: { load: async () => undefined, save: async () => true },
    warn: () => {},
  });
  ends.push(engine.close);
  const controller = new AbortController();
  const input = { turnId: 't', conversationId: 'conv_1', model: 'codex/gpt-5', keyId: 'a' };
  const messages = [{ role: 'user', content: 'hello' }] as const;
  const run = engine.run({ ...input, messages, ...(tools && { tools }) }, { signal: controller.signal });
  const failed = drain(run).then(
    () => undefined,
    (error: unknown) => error,
  );
  await appServer.began;
  api.behave(() => step);
  const answer = appServer.request();
  answer.resume();
  const reason = new RpcError('cancelled');
  return {
    ...appServer,
    failed,
    answer,
    reason,
    /** Resolves when all that follows at once has happened. */
    async cancel() {
      controller.abort(reason);
      for (let iterations = 0; iterations < 20; iterations++) await nextIteration();
    },
  };
}

/** Reads all events, as the gateway does; throws the error of the turn. */
async function drain(run: AsyncGenerator<unknown>): Promise<void> {
  while (!(await run.next()).done);
}

const STOPPED = ['turn/interrupt', 'thread/backgroundTerminals/clean'];

it('a cancelled turn is interrupted once Codex has reported the command that it starts', async () => {
  const { answer, cancel, failed, reason, report, log } = await startTurn(CALL);
  await once(answer, 'end');
  await cancel();
  report('item/started', { id: 'call_of_another' });
  for (let iterations = 0; iterations < 20; iterations++) await nextIteration();
  report('item/started', { id: CALL_ID });
  expect(await failed).toBe(reason);
  expect(log).toEqual(['item/started', 'item/started', ...STOPPED]);
});

it('a cancelled turn is interrupted once Codex has returned from a call that starts no command', async () => {
  const { answer, cancel, failed, request, log } = await startTurn(CALL);
  await once(answer, 'end');
  await cancel();
  log.push('request');
  request();
  await failed;
  expect(log).toEqual(['request', ...STOPPED]);
});

it('a turn that ends by itself while its interrupt waits is over', async () => {
  const { answer, cancel, failed, complete, log } = await startTurn(CALL);
  await once(answer, 'end');
  await cancel();
  log.push('completed');
  complete();
  await failed;
  expect(log).toEqual(['completed', ...STOPPED]);
});

it.each([
  ['ends without a report of the command', true],
  ['reports the command in no time', false],
])('an app-server that %s is ended', async (_, dies) => {
  const { answer, cancel, failed, die, log } = await startTurn(CALL);
  await once(answer, 'end');
  await cancel();
  if (dies) die();
  await failed;
  expect(log).toContain('end');
  expect(log).not.toContain('turn/interrupt');
});

it.each<[string, Step]>([
  ['text', { text: 'answer' }],
  ['a call of another tool', { call: 'write_stdin', args: { session_id: 1 } }],
])('a turn that has got %s is interrupted at once', async (_, step) => {
  const { answer, cancel, failed, log } = await startTurn(step);
  await once(answer, 'end');
  await cancel();
  await failed;
  expect(log).toEqual(STOPPED);
});

it('a turn that has ended leaves nothing in memory while its app-server runs on', async () => {
  class Tools implements Toolset {
    readonly tools = [];
    readonly chars = 0;
    readonly call = async () => ({ content: '', isError: false });
  }
  const { cancel, failed, log } = await startTurn({ text: 'answer' }, new Tools());
  await cancel();
  await failed;
  expect(log).toEqual(STOPPED);
  await nextIteration();
  expect(queryObjects(Tools, { format: 'count' })).toBe(0);
});

const toEvent = (type: string, item: object, more: object = {}): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, output_index: 0, item, ...more })}\n\n`;
const COMMAND = { type: 'function_call', arguments: '{"cmd":"ls"}', call_id: 'call_1', name: 'exec_command' };
const DONE = 'response.output_item.done';

/** Whether a command is being started once the pieces have passed. */
async function startsAfter(pieces: readonly string[], commands = createRequestedCommands()): Promise<boolean> {
  const stream = commands.pass().resume();
  for (const piece of pieces) stream.write(Buffer.from(piece));
  return commands.settled(AbortSignal.abort()).then(
    () => false,
    () => true,
  );
}

it.each([
  ['call', toEvent(DONE, COMMAND)],
  ['call with other line ends', toEvent(DONE, COMMAND).replaceAll('\n', '\r\n')],
  ['call with white space', toEvent(DONE, COMMAND).replaceAll('":"', '": "')],
  ['call of many arguments', toEvent(DONE, { ...COMMAND, arguments: 'x'.repeat(5_000) })],
])('a %s of a command is found, however it is divided', async (_, event) => {
  const before = toEvent('response.output_text.delta', {});
  for (let at = 0; at < event.length; at += 7)
    expect(await startsAfter([before, event.slice(0, at), event.slice(at)])).toBe(true);
  expect(await startsAfter([before, ...event])).toBe(true);
});

it.each([
  ['begun', toEvent('response.output_item.added', { ...COMMAND, arguments: '' })],
  ['cut', toEvent(DONE, COMMAND).trimEnd()],
  ['of another tool', toEvent(DONE, { ...COMMAND, name: 'write_stdin' })],
  ['in a text', toEvent(DONE, { type: 'message', content: JSON.stringify(COMMAND) })],
  ['in two events', toEvent(DONE, { call_id: 'call_1' }) + toEvent(DONE, { name: 'exec_command' })],
])('a call that is %s starts no command', async (_, event) => {
  expect(await startsAfter([event])).toBe(false);
});

it('commands are settled when each of them is reported', async () => {
  const commands = createRequestedCommands();
  const events = ['call_1', 'call_2'].map((call_id) => toEvent(DONE, { ...COMMAND, call_id }));
  expect(await startsAfter(events, commands)).toBe(true);
  const report = (id: string): void =>
    commands.notified({ method: 'item/started', params: { ...turn, item: { type: 'commandExecution', id } } });
  report('call_2');
  expect(await startsAfter([], commands)).toBe(true);
  report('call_1');
  expect(await startsAfter([], commands)).toBe(false);
});

it('nothing passes once the answers are held', async () => {
  const commands = createRequestedCommands();
  const stream = commands.pass();
  stream.write('one');
  commands.hold();
  stream.end(toEvent(DONE, COMMAND));
  expect(String(stream.read())).toBe('one');
  expect(await startsAfter([toEvent(DONE, COMMAND)], commands)).toBe(false);
  expect([stream.read(), stream.readableEnded]).toEqual([null, false]);
});
