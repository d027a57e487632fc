// Starts, kills, stops and suspends the processes under test, checks their output and samples their resident memory:
// three gateways on one Firestore and one Pub/Sub emulator, the model behind them, and one sandbox service, which they
// reach through a proxy. Firestore is some milliseconds away, as in the cloud.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import type { Store } from '../../../shared/store/store.ts';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { startFirestoreEmulator, startPubsubEmulator } from '../../support/fixtures/database/emulators.ts';
import type { LocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type DelayProxy, startDelayProxy } from '../../support/fixtures/network/delay-proxy.ts';
import { startFaultProxy } from '../../support/fixtures/network/fault-proxy.ts';
import { startLinkProxy } from '../../support/fixtures/network/link-proxy.ts';
import { TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import type { Checks } from '../guarantees.ts';
import { MODEL, PROMPT_MARK } from '../journal/prompts.ts';
import { startGateway, untilHealthy } from './gateway-process.ts';
import { createProcessOutput, type ErrorsLogged } from './process-output.ts';

export const INSTANCES = 3;
const RSS_EVERY_MS = 1_000;
const RECOVERY_MS_MAX = 40_000;
/** Longest wait for a new process to be well before it gets calls, as with a startup probe. */
const STARTUP_MS_MAX = 15_000;

export interface Instance {
  /** `a`, `b`, `c`. */
  readonly name: string;
  /** Where its latest process listens or listened. */
  readonly url: string;
  /** Counts its processes from 1. */
  readonly life: number;
}

export interface MemorySample {
  readonly atMs: number;
  readonly instance: string;
  readonly life: number;
  readonly rssBytes: number;
}

export interface Fleet {
  readonly projectId: string;
  readonly topic: string;
  readonly firestoreHost: string;
  readonly pubsubHost: string;
  /** The store, past the gateways and the proxies. */
  readonly store: Store;
  /** The distance between the gateways and Firestore. */
  readonly delay: DelayProxy;
  readonly provider: Awaited<ReturnType<typeof startModelProvider>>;
  readonly instances: readonly Instance[];
  readonly memory: readonly MemorySample[];
  /** SIGKILL; resolves when the process has exited. */
  kill(index: number): Promise<void>;
  /** SIGTERM; resolves when the process has drained and exited. */
  terminate(index: number): Promise<void>;
  /** `skewMs`: how far the new process's clock is ahead. */
  start(index: number, skewMs?: number): Promise<void>;
  /** Removes the clock error of a running process. */
  correctClock(index: number): void;
  /** SIGSTOP and SIGCONT to an emulator. */
  suspend(which: 'firestore' | 'pubsub'): Promise<void>;
  resume(which: 'firestore' | 'pubsub'): void;
  /**
   * Nothing arrives between the gateways and the emulators for `ms`, and nothing ever again on the connections of that
   * time. Resolves when every instance is well again, or has had the time for it.
   */
  blackHole(ms: number): Promise<void>;
  /** SIGKILL to the sandbox service; resolves when it has exited. */
  killSandbox(): Promise<void>;
  startSandbox(): Promise<void>;
  /** While true, what the gateways and the sandbox service send to each other does not arrive. */
  loseSandbox(isLost: boolean): void;
  errorsLogged(): ErrorsLogged;
  close(): Promise<void>;
}

export interface FleetOptions {
  readonly projectId: string;
  /** Variables beside those that every instance needs: keys, limits. */
  readonly env: Readonly<Record<string, string>>;
  /** Must not occur in any output. */
  readonly secrets: readonly string[];
  readonly checks: Checks;
  /** Shared with the provider, so that it is among the secrets. */
  readonly providerKey: string;
  /** A key of `env` that no traffic uses. */
  readonly probeKey: string;
}

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const { projectId, secrets, checks, providerKey, probeKey } = options;
  const [firestore, pubsub, provider] = await Promise.all([
    startFirestoreEmulator(),
    startPubsubEmulator(),
    startModelProvider(),
  ]);
  const emulators = { firestore, pubsub };
  const delay = await startDelayProxy(firestore.host, 0);
  const network = { firestore: await startFaultProxy(delay.host), pubsub: await startFaultProxy(pubsub.host) };
  const store = createFirestoreStore({ projectId, emulatorHost: firestore.host, clock: Date });
  const sandboxData = mkdtempSync(join(tmpdir(), 'soak-sandbox-'));
  const sandboxOptions = { port: await freePort(), dataDir: sandboxData };
  let sandbox = await startSandboxService(sandboxOptions);
  const sandboxProxy = await startLinkProxy(sandboxOptions.port);
  const topic = 'gateway-events';
  const env = {
    FIRESTORE_EMULATOR_HOST: network.firestore.host,
    PUBSUB_EMULATOR_HOST: network.pubsub.host,
    GOOGLE_CLOUD_PROJECT: projectId,
    GATEWAY_TOPIC: topic,
    METADATA_SERVER_DETECTION: 'none',
    ANTHROPIC_API_KEY: providerKey,
    ANTHROPIC_BASE_URL: provider.url,
    OPENAI_API_KEY: providerKey,
    OPENAI_BASE_URL: provider.url,
    MODEL,
    SANDBOX_URL: sandboxProxy.url,
    SANDBOX_TOKEN: TOKEN,
    ...options.env,
  };
  const processes: (LocalGateway | undefined)[] = [];
  const instances = Array.from({ length: INSTANCES }, (_, index) => ({ name: 'abc'.charAt(index), url: '', life: 0 }));
  const memory: MemorySample[] = [];
  const output = createProcessOutput(checks, [...secrets, PROMPT_MARK]);

  const start = async (index: number, skewMs = 0): Promise<void> => {
    const instance = instances[index];
    if (instance === undefined || processes[index] !== undefined) throw new Error(`instance ${index} runs already`);
    const gateway = await startGateway(env, skewMs);
    processes[index] = gateway;
    gateway.child.once('exit', (code, signal) => {
      const expected = processes[index] !== gateway;
      checks.check(
        'crashes',
        expected,
        () => `${instance.name} ended by itself: ${code ?? signal}: ${gateway.output().slice(-400)}`,
      );
    });
    await untilHealthy(gateway.url, probeKey, STARTUP_MS_MAX);
    Object.assign(instance, { url: gateway.url, life: instance.life + 1 });
  };

  /** After this call the exit of the process is expected. */
  const detach = (index: number): LocalGateway | undefined => {
    const gateway = processes[index];
    processes[index] = undefined;
    return gateway;
  };

  const sample = (): void => {
    for (const [index, { name, life }] of instances.entries()) {
      const gateway = processes[index];
      if (gateway === undefined) continue;
      try {
        memory.push({ atMs: Date.now(), instance: name, life, rssBytes: gateway.rssBytes() });
      } catch {
        // The process is exiting, or the machine has no /proc.
      }
    }
  };

  await Promise.all(instances.map((_, index) => start(index)));
  const sampler = setInterval(sample, RSS_EVERY_MS);

  // The gateways end with this process, however it ends. The emulators' fixture does the same for theirs.
  process.once('exit', () => {
    for (const gateway of processes) gateway?.child.kill('SIGKILL');
    void sandbox.end('SIGKILL');
  });

  const terminate = async (index: number): Promise<void> => {
    const gateway = detach(index);
    const instance = instances[index];
    if (gateway === undefined || instance === undefined) return;
    const code = await gateway.stop();
    checks.check('crashes', code === 0, () => `${instance.name} ended with ${code} on SIGTERM`);
    output.check(instance, gateway.output());
  };

  const awaitRecovery = async ({ name, url }: Instance): Promise<void> => {
    const { isHealthy, answer } = await untilHealthy(url, probeKey, RECOVERY_MS_MAX);
    checks.check('recovery', isHealthy, () => `${name}: ${answer}`);
  };

  return {
    projectId,
    topic,
    firestoreHost: firestore.host,
    pubsubHost: pubsub.host,
    store,
    delay,
    provider,
    instances,
    memory,
    start,
    async kill(index) {
      const gateway = detach(index);
      const instance = instances[index];
      if (gateway === undefined || instance === undefined) return;
      const exited = once(gateway.child, 'exit');
      gateway.child.kill('SIGKILL');
      await exited;
      await gateway.stop();
      output.check(instance, gateway.output());
    },
    terminate,
    correctClock: (index) => void processes[index]?.child.kill('SIGUSR2'),
    suspend: (which) => emulators[which].suspend(),
    resume: (which) => emulators[which].resume(),
    async blackHole(ms) {
      for (const proxy of Object.values(network)) proxy.blackHole(true);
      await sleep(ms);
      for (const proxy of Object.values(network)) proxy.blackHole(false);
      await Promise.all(instances.map(awaitRecovery));
    },
    async killSandbox() {
      await sandbox.end('SIGKILL');
    },
    async startSandbox() {
      sandbox = await startSandboxService(sandboxOptions);
    },
    loseSandbox: (isLost) => sandboxProxy.loseAll(isLost),
    errorsLogged: () => output.errors,
    async close() {
      clearInterval(sampler);
      firestore.resume();
      pubsub.resume();
      for (const index of instances.keys()) await terminate(index);
      const code = await sandbox.end();
      checks.check('crashes', code === 0, () => `the sandbox service ended with ${code} on SIGTERM`);
      await store.close();
      await Promise.all([sandboxProxy.stop(), network.firestore.stop(), network.pubsub.stop()]);
      await delay.stop();
      rmSync(sandboxData, { recursive: true, force: true });
      await Promise.all([firestore.stop(), pubsub.stop(), provider.close()]);
    },
  };
}
