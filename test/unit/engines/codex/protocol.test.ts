// The types that the gateway sends and reads agree with those that the installed Codex generates, and only the methods
// of an allow-list are sent.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CODEX_VERSION, findCodex } from '../../../../shared/codex-host/binary.ts';
import { RESULTS } from '../../../../shared/engines/codex/protocol/protocol.ts';
import testManifest from '../../../package.json' with { type: 'json' };
import { describeWith } from '../../../support/requirements.ts';

const ROOT = resolve(import.meta.dirname, '../../../..');
const exec = promisify(execFile);

/** What must hold between our types (`ours`) and the generated ones, checked by the compiler. */
const CHECK = `
import type * as ours from '${ROOT}/shared/engines/codex/protocol/protocol.ts';
import type * as host from '${ROOT}/shared/codex-host/app-server/handshake.ts';
import type { input } from '${ROOT}/node_modules/zod';
import type { ClientRequest } from './generated/ClientRequest';
import type { InitializeResponse } from './generated/InitializeResponse';
import type { ServerNotification } from './generated/ServerNotification';
import type * as v2 from './generated/v2';
import type { ExecCommandApprovalResponse } from './generated/ExecCommandApprovalResponse';
import type { ApplyPatchApprovalResponse } from './generated/ApplyPatchApprovalResponse';

type Params<U extends { method: string }, M> = Extract<U, { method: M }> extends { params: infer P } ? P : 'no such method';
type Mutable<T> = T extends object ? { -readonly [K in keyof T]: Mutable<T[K]> } : T;
export type Fits<A, B> = [A] extends [B] ? true : { wrong: A; expected: B };
export type AllFit<T extends { [K in keyof T]: true }> = T;

export type Requests = AllFit<{ [M in ours.ClientMethod]: Fits<ours.ClientRequests[M], Params<ClientRequest, M>> }>;

export type Handshake = AllFit<{
  params: Fits<host.InitializeParams, Params<ClientRequest, 'initialize'>>;
  result: Fits<InitializeResponse, input<typeof host.InitializeResult>>;
}>;

type Answers = {
  'thread/start': v2.ThreadStartResponse;
  'thread/resume': v2.ThreadResumeResponse;
  'thread/delete': v2.ThreadDeleteResponse;
  'thread/inject_items': v2.ThreadInjectItemsResponse;
  'turn/start': v2.TurnStartResponse;
  'turn/interrupt': v2.TurnInterruptResponse;
  'model/list': v2.ModelListResponse;
  'thread/backgroundTerminals/clean': v2.ThreadBackgroundTerminalsCleanResponse;
};
export type Results = AllFit<{ [M in ours.ClientMethod]: Fits<Answers[M], input<(typeof ours.RESULTS)[M]>> }>;

export type Notifications = AllFit<{
  [M in ours.NotificationMethod]: Fits<Params<ServerNotification, M>, input<(typeof ours.NOTIFICATIONS)[M]>>;
}>;
type ItemType = ours.Item['type'];
export type Items = AllFit<{
  [T in ItemType]: Fits<Extract<v2.ThreadItem, { type: T }>, Extract<input<typeof ours.Item>, { type: T }>>;
}>;

export type Called = AllFit<{ call: Fits<v2.DynamicToolCallParams, input<typeof ours.ToolCall>>; answer: Fits<ours.ToolAnswer, v2.DynamicToolCallResponse> }>;

type Refusals = {
  'item/commandExecution/requestApproval': v2.CommandExecutionRequestApprovalResponse;
  'item/fileChange/requestApproval': v2.FileChangeRequestApprovalResponse;
  'item/permissions/requestApproval': v2.PermissionsRequestApprovalResponse;
  'item/tool/requestUserInput': v2.ToolRequestUserInputResponse;
  'item/tool/call': v2.DynamicToolCallResponse;
  'mcpServer/elicitation/request': v2.McpServerElicitationRequestResponse;
  execCommandApproval: ExecCommandApprovalResponse;
  applyPatchApproval: ApplyPatchApprovalResponse;
};
export type Refused = AllFit<{ [M in keyof Refusals]: Fits<Mutable<(typeof ours.ANSWERS)[M]>, Refusals[M]> }>;
export type Unwanted = AllFit<[Fits<(typeof host.UNWANTED)[number], ServerNotification['method']>]>;
`;

const WRONG = `
import type { AllFit, Fits } from './check.ts';
import type { ClientRequest } from './generated/ClientRequest';
export type Wrong = AllFit<{ a: Fits<'thread/gone', ClientRequest['method']> }>;
`;

const TSCONFIG = {
  compilerOptions: {
    target: 'esnext',
    module: 'esnext',
    moduleResolution: 'bundler',
    allowImportingTsExtensions: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
  },
  files: ['check.ts', 'wrong.ts'],
};

describeWith('codex', 'the protocol of the installed Codex', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'codex-protocol-'));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const compile = (): Promise<string> =>
    exec(join(ROOT, 'test/node_modules/.bin/tsc'), ['-p', directory]).then(
      () => '',
      (error: { stdout?: string }) => error.stdout ?? 'tsc did not run',
    );

  it('the installed Codex has the version that test/package.json pins', async () => {
    const { stdout } = await exec(findCodex(undefined, import.meta.url)?.file ?? '', ['--version']);
    expect(stdout.trim()).toBe(`codex-cli ${CODEX_VERSION}`);
    expect(testManifest.dependencies['@openai/codex']).toBe(CODEX_VERSION);
  });

  it('the protocol of the installed Codex still has every method, answer, notification and item the gateway uses, in the form it uses', async () => {
    const generated = join(directory, 'generated');
    await exec(findCodex(undefined, import.meta.url)?.file ?? '', [
      'app-server',
      'generate-ts',
      '--experimental',
      '--out',
      generated,
    ]);
    await writeFile(join(directory, 'tsconfig.json'), JSON.stringify(TSCONFIG));
    await writeFile(join(directory, 'check.ts'), CHECK);
    // The check itself must be able to fail.
    await writeFile(join(directory, 'wrong.ts'), WRONG);
    const [first, ...others] = (await compile()).split('\n').filter((line) => line.includes('error TS'));
    expect(first).toMatch(/wrong\.ts.*thread\/gone/);
    expect(others).toEqual([]);
  }, 60_000);

  it('the gateway sends no method that runs or reads outside Codex’s own sandbox', () => {
    expect(Object.keys(RESULTS).toSorted()).toEqual([
      'model/list',
      'thread/backgroundTerminals/clean',
      'thread/delete',
      'thread/inject_items',
      'thread/resume',
      'thread/start',
      'turn/interrupt',
      'turn/start',
    ]);
  });
});
