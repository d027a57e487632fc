// What the codex tests share: the real program in the real sandbox, the fake Responses API, and a conversation that remembers its messages
// as the gateway does.
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { type CodexBinary, findCodex, INSTALL_HINT } from '../../../shared/engines/codex/binary.ts';
import { type CodexEngine, type CodexOptions, createCodexEngine } from '../../../shared/engines/codex/engine.ts';
import type { Engine, EngineEvent, EngineState, Message, Outcome, TurnInput } from '../../../shared/engines/engine.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createBubblewrapSandbox } from '../../../shared/workspace/bubblewrap.ts';
import type { Sandbox } from '../../../shared/workspace/sandbox.ts';
import { type AgentRequest, type ResponsesApi, type Step, startResponsesApi } from '../../fakes/responses-api.ts';

/** Codex yields to everything else on the machine: where that is busy, it takes its time. */
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

export const API_KEY = 'sk-secret-of-the-deployment';
/** Of Codex's own catalogue, so that it knows the model's tools. */
export const MODEL = 'codex/gpt-6.1-sol';

export interface Stage {
  readonly api: ResponsesApi;
  readonly sandbox: Sandbox;
  readonly directory: string;
  readonly state: EngineState & { readonly saved: Map<string, Uint8Array> };
  readonly warnings: string[];
  /** Another machine of the same deployment: own processes and files, the same state. */
  machine(options?: Partial<CodexOptions>): CodexEngine;
  close(): Promise<void>;
}

/** The program that test/package.json installs. */
export function codexProgram(): string {
  return installedCodex().file;
}

function installedCodex(): CodexBinary {
  const binary = findCodex(undefined, import.meta.url);
  if (binary === undefined) throw new Error(INSTALL_HINT);
  return binary;
}

export async function setUpStage(): Promise<Stage> {
  const directory = await mkdtemp(join(tmpdir(), 'codex-test-'));
  const api = await startResponsesApi();
  api.behave(byPrompt);
  const sandbox = createBubblewrapSandbox({ directory: join(directory, 'workspaces'), path: process.env.PATH ?? '' });
  const binary = installedCodex();
  const saved = new Map<string, Uint8Array>();
  const warnings: string[] = [];
  const engines: CodexEngine[] = [];
  const state: Stage['state'] = {
    saved,
    load: async (id) => saved.get(id),
    async save(id, bytes) {
      saved.set(id, bytes);
      return true;
    },
  };
  return {
    api,
    sandbox,
    directory,
    state,
    warnings,
    machine(options = {}) {
      const engine = createCodexEngine({
        launcher: sandbox,
        binary,
        directory: join(directory, `machine-${engines.length}`),
        baseUrls: { gateway: `${api.url}/v1`, chatgpt: `${api.url}/chatgpt/v1` },
        apiKey: API_KEY,
        state,
        warn: (message) => warnings.push(message),
        ...options,
      });
      engines.push(engine);
      return engine;
    },
    async close() {
      await Promise.all(engines.map((engine) => engine.close()));
      await sandbox.close();
      await api.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** `run CMD` has the model run a command, `patch TEXT` apply a patch; what came of it is the answer. Anything else is repeated. */
export function byPrompt(request: AgentRequest): Step {
  if (request.toolOutput !== undefined) return { text: request.toolOutput };
  const [, word, rest = ''] = /^(run|patch|status|cut|escalate|tool) (.*)$/s.exec(request.prompt) ?? [];
  if (word === 'run') return { call: 'exec_command', args: { cmd: rest, yield_time_ms: 10_000 } };
  if (word === 'escalate')
    return { call: 'exec_command', args: { cmd: rest, sandbox_permissions: 'require_escalated', justification: 'x' } };
  if (word === 'tool') return { call: 'tests__echo', args: JSON.parse(rest) };
  if (word === 'patch') return { custom: 'apply_patch', input: rest };
  if (word === 'status') return { status: Number.parseInt(rest, 10), message: `no, said sk-leaked at ${rest}` };
  if (word === 'cut') return { cut: rest };
  return { text: ['You said: ', request.prompt], reasoning: 'Let me think.' };
}

export interface Told {
  readonly events: EngineEvent[];
  readonly outcome: Outcome;
}

export interface Conversation {
  readonly id: string;
  readonly messages: Message[];
  /** One turn on `engine`; the answer joins the messages. */
  ask(engine: Engine, prompt: string, extra?: Partial<TurnInput>, signal?: AbortSignal): Promise<Told>;
  /** One turn that fails with an RpcError; the prompt stays, as in the gateway. */
  fail(engine: Engine, prompt: string, extra?: Partial<TurnInput>, signal?: AbortSignal): Promise<RpcError>;
}

let conversations = 0;

export function startConversation(keyId = 'key-a'): Conversation {
  const conversationId = `conv_${++conversations}`;
  const messages: Message[] = [];
  const ask: Conversation['ask'] = async (engine, prompt, extra = {}, signal = new AbortController().signal) => {
    messages.push({ role: 'user', content: prompt });
    const turn = { turnId: 'turn_1', conversationId, model: MODEL, keyId, messages: [...messages], ...extra };
    const run = engine.run(turn, { signal });
    const events: EngineEvent[] = [];
    for (;;) {
      const step = await run.next();
      if (step.done) {
        messages.push({ role: 'assistant', content: step.value.content });
        return { events, outcome: step.value };
      }
      events.push(step.value);
    }
  };
  return {
    id: conversationId,
    messages,
    ask,
    async fail(...args) {
      try {
        await ask(...args);
      } catch (error) {
        if (error instanceof RpcError) return error;
        throw error;
      }
      throw new Error('the turn succeeded');
    },
  };
}

/** Texts of a request's messages from the first of the conversation on, without what Codex itself puts in front. */
export function saidIn(request: AgentRequest | undefined): string[] {
  return (request?.input ?? [])
    .filter(({ role, text }) => (role === 'user' || role === 'assistant') && !text.startsWith('<'))
    .map(({ text }) => text);
}

/** Pids of the app-servers among the descendants of this process. */
export function appServers(): number[] {
  return descendants(([program = '', argument]) => program.endsWith('/codex') && argument === 'app-server');
}

/** Pids of the descendants of this process whose command line is of the kind. */
export function descendants(isWanted: (argv: readonly string[]) => boolean, pid = process.pid): number[] {
  return childrenOf(pid).flatMap((child) => {
    const argv = readProc(`/proc/${child}/cmdline`).split('\0');
    return [...(isWanted(argv) ? [child] : []), ...descendants(isWanted, child)];
  });
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readProc(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
