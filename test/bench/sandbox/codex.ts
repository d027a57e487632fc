// Measures what Codex costs above the model: a warm turn, in this process and through the sandbox service, the first
// turn of a new instance on a thread of ten turns, and memory with eight turns side by side. The model responds at
// once, on loopback; the baseline is the same request without Codex, alternating with it. Codex runs at the lowest CPU
// priority: on a busy machine the fastest turn is a better measure than the median.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findCodex, INSTALL_HINT } from '../../../shared/codex-host/binary.ts';
import type { CodexHost } from '../../../shared/codex-host/codex-host.ts';
import { createLocalCodex } from '../../../shared/codex-host/local-codex.ts';
import { residentBytes } from '../../../shared/codex-host/pool/resident-bytes.ts';
import { type CodexEngine, createCodexEngine } from '../../../shared/engines/codex/engine.ts';
import type { Engine, EngineState, Message } from '../../../shared/engines/engine.ts';
import { createLogger } from '../../../shared/log.ts';
import { createBubblewrapSandbox } from '../../../shared/sandbox/bubblewrap.ts';
import { startResponsesApi } from '../../support/fakes/model-provider/responses-api.ts';
import { type BenchLine, median } from '../support/bench.ts';

const MODEL = 'codex/gpt-6.1-sol';
const WARM_TURNS = 30;
const NEW_INSTANCES = 7;
const PARALLEL = 8;
/** Of a warm turn through the sandbox service, against one in process. */
const SERVICE_TARGET = 1.3;

export async function run(): Promise<BenchLine[]> {
  const directory = await mkdtemp(join(tmpdir(), 'codex-bench-'));
  const api = await startResponsesApi();
  const sandbox = createBubblewrapSandbox({ directory: join(directory, 'workspaces'), path: process.env.PATH ?? '' });
  const binary = findCodex(undefined, import.meta.url);
  if (binary === undefined) throw new Error(INSTALL_HINT);
  const saved = new Map<string, Uint8Array>();
  const state: EngineState = {
    load: async (id) => saved.get(id),
    async save(id, bytes) {
      saved.set(id, bytes);
      return true;
    },
  };
  let instances = 0;
  const warn = (message: string): void => console.log(message);
  const createEngine = (host: CodexHost): CodexEngine => {
    const baseUrls = { gateway: `${api.url}/v1`, chatgpt: `${api.url}/v1` };
    return createCodexEngine({ host, baseUrls, apiKey: 'sk-bench', state, warn });
  };
  const createInstance = () => {
    const directoryOf = join(directory, `codex-${instances++}`);
    const codex = createLocalCodex({ launcher: sandbox, program: binary.file, directory: directoryOf, warn });
    const host = codex.hostFor('bench');
    const engine = createEngine(host);
    return {
      run: engine.run,
      warm: host.warm,
      async close() {
        await codex.close();
        await engine.close();
      },
    };
  };
  try {
    const engine = createInstance();
    const warmThread: Message[] = [];
    await runTurn(engine, 'c1', warmThread);
    const warm: number[] = [];
    const bare: number[] = [];
    for (let turn = 0; turn < WARM_TURNS; turn++) {
      warm.push(await runTurn(engine, 'c1', warmThread));
      bare.push(await callModel(api.url));
    }

    const tenTurns: Message[] = [];
    for (let turn = 0; turn < 10; turn++) await runTurn(engine, 'c10', tenTurns);
    const thread = saved.get('c10') ?? new Uint8Array();
    const fresh: number[] = [];
    const unprepared: number[] = [];
    for (let instance = 0; instance < 2 * NEW_INSTANCES; instance++) {
      const other = createInstance();
      const isPrepared = instance % 2 === 0;
      // An instance whose default model is one of Codex does this when it starts.
      if (isPrepared) await other.warm();
      saved.set('c10', thread);
      (isPrepared ? fresh : unprepared).push(await runTurn(other, 'c10', [...tenTurns]));
      await other.close();
    }

    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const before = api.requests.length;
    api.behave(() => ({ text: 'x'.repeat(2_000), gate }));
    const turns = Array.from({ length: PARALLEL }, (_, index) => runTurn(engine, `p${index}`, []));
    while (api.requests.length < before + PARALLEL) await api.next();
    const bytes = await residentBytes(process.pid);
    release();
    await Promise.all(turns);

    // After the measurement of memory, which the service in this process would be part of.
    api.behave(() => ({ text: 'answer' }));
    const service = await startService(join(directory, 'service'), binary.file);
    const remote = createEngine(service.ports.codex);
    const remoteThread: Message[] = [];
    await runTurn(remote, 'r1', remoteThread);
    const warmBeside: number[] = [];
    const warmRemote: number[] = [];
    for (let turn = 0; turn < WARM_TURNS; turn++) {
      warmBeside.push(await runTurn(engine, 'c1', warmThread));
      warmRemote.push(await runTurn(remote, 'r1', remoteThread));
    }
    await remote.close();
    await service.close();
    await engine.close();

    const fastest = (values: readonly number[]): string =>
      `fastest ${(Math.min(...values) - median(bare)).toFixed(0)} ms`;
    const bareMs = median(bare);
    const warmMs = median(warm) - bareMs;
    const besideMs = median(warmBeside) - bareMs;
    const remoteMs = median(warmRemote) - bareMs;
    const freshMs = median(fresh) - bareMs;
    const mib = bytes / (1 << 20);
    const baseline = { baseline: bareMs, baselineName: 'the model call itself' };
    return [
      {
        name: 'codex warm turn above the model',
        value: warmMs,
        unit: 'ms',
        ...baseline,
        target: '<= 60',
        met: warmMs <= 60,
        notes: fastest(warm),
      },
      {
        name: 'codex warm turn above the model, through the sandbox service',
        value: remoteMs,
        unit: 'ms',
        baseline: besideMs,
        baselineName: 'in process',
        ratio: besideMs / remoteMs,
        target: `<= ${SERVICE_TARGET}x`,
        met: remoteMs <= SERVICE_TARGET * besideMs,
        notes: `takes ${(remoteMs / besideMs).toFixed(2)}x; ${fastest(warmRemote)}`,
      },
      {
        name: 'codex first turn of a new instance, thread of 10 turns',
        value: freshMs,
        unit: 'ms',
        ...baseline,
        target: '<= 350',
        met: freshMs <= 350,
        notes: `${fastest(fresh)}; rollout ${thread.byteLength} bytes compressed; unprepared ${(median(unprepared) - bareMs).toFixed(0)} ms, ${fastest(unprepared)}`,
      },
      {
        name: 'codex resident memory at 8 parallel turns, this process and all below it',
        value: mib,
        unit: 'MiB',
        target: '<= 400',
        met: mib <= 400,
      },
    ];
  } finally {
    await sandbox.close();
    await api.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** A sandbox service on loopback, and a gateway's ports over a link to it. */
async function startService(directory: string, program: string) {
  const { createSandboxServer } = await import('../../../functions/sandbox/server.ts');
  const { loadSandboxConfig } = await import('../../../shared/config/sandbox-service.ts');
  const { createRemotePorts } = await import('../../../shared/sandbox-link/client/remote-ports.ts');
  const { createLocalPorts } = await import('../../../shared/sandbox-ports/local.ts');
  const sandbox = createBubblewrapSandbox({ directory: join(directory, 'workspaces'), path: process.env.PATH ?? '' });
  const log = createLogger({ format: 'json', write: () => {} });
  const token = randomBytes(32).toString('hex');
  const server = createSandboxServer(loadSandboxConfig({ SANDBOX_TOKEN: token }), log, {
    createPorts: (onTerminalEnded) =>
      createLocalPorts({ sandbox, servers: new Map(), codex: { program, directory, warn: () => {} }, onTerminalEnded }),
  });
  server.http.listen(0, '127.0.0.1');
  await once(server.http, 'listening');
  const { port } = server.http.address() as AddressInfo;
  const ports = createRemotePorts({
    address: { url: `http://127.0.0.1:${port}`, token },
    log,
    onTerminalEnded: () => {},
  });
  return {
    ports,
    async close() {
      await ports.close();
      await server.stop(0);
    },
  };
}

/** Runs one turn of a conversation to its end; returns milliseconds. */
async function runTurn(engine: Engine, conversationId: string, messages: Message[]): Promise<number> {
  messages.push({ role: 'user', content: `question ${messages.length}` });
  const startMs = performance.now();
  const turn = { turnId: 't', conversationId, model: MODEL, keyId: 'bench', messages: [...messages] };
  const events = engine.run(turn, { signal: new AbortController().signal });
  for (;;) {
    const step = await events.next();
    if (!step.done) continue;
    messages.push({ role: 'assistant', content: step.value.content });
    return performance.now() - startMs;
  }
}

async function callModel(url: string): Promise<number> {
  const startMs = performance.now();
  const body = JSON.stringify({ model: 'gpt-6.1-sol', stream: true, input: [{ role: 'user', content: 'question' }] });
  await (await fetch(`${url}/v1/responses`, { method: 'POST', body })).text();
  return performance.now() - startMs;
}
