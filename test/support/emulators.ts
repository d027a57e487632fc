// Starts and stops the real Firestore and Pub/Sub emulators of the Google Cloud SDK: their jars, run by java directly,
// on free loopback ports. Owns their lives: an emulator does not outlive the process that started it, however that
// ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const START_TIMEOUT_MS = 60_000;
const START_ATTEMPTS = 3;
const POLL_MS = 50;
const TERM_GRACE_MS = 2_000;

export interface Emulator {
  /** `127.0.0.1:port`, for FIRESTORE_EMULATOR_HOST or PUBSUB_EMULATOR_HOST. */
  readonly host: string;
  /** Ends it; resolves when the process is gone. May be called twice. */
  stop(): Promise<void>;
  /** Ends it if it runs and starts it again at the same address, empty. */
  restart(): Promise<void>;
  /** Freezes it (SIGSTOP): connections stay open without a response once this has resolved. */
  suspend(): Promise<void>;
  /** Undoes `suspend`. */
  resume(): void;
}

interface Installation {
  readonly java: string;
  readonly firestoreJar: string;
  readonly pubsubJar: string;
}

/** Whether both emulators can be started here, and if not what is missing. */
export function findEmulators(): { readonly available: boolean; readonly reason: string } {
  const found = locate();
  return typeof found === 'string' ? { available: false, reason: found } : { available: true, reason: '' };
}

/** Resolves when it accepts calls; its documents live until it stops. Throws when it cannot be started. */
export function startFirestoreEmulator(): Promise<Emulator> {
  return start('Firestore', ({ firestoreJar }) => [
    '-Duser.language=en',
    '-cp',
    firestoreJar,
    'com.google.cloud.datastore.emulator.firestore.CloudFirestore',
  ]);
}

/** Resolves when it accepts calls. Throws when it cannot be started. */
export function startPubsubEmulator(): Promise<Emulator> {
  return start('Pub/Sub', ({ pubsubJar }) => ['-jar', pubsubJar]);
}

function locate(): Installation | string {
  const gcloud = findOnPath('gcloud');
  const root = process.env.CLOUDSDK_ROOT ?? (gcloud === undefined ? undefined : dirname(dirname(gcloud)));
  if (root === undefined) return 'install the Google Cloud SDK';
  const javaHome = process.env.JAVA_HOME;
  const java = javaHome === undefined ? findOnPath('java') : join(javaHome, 'bin', 'java');
  if (java === undefined || !existsSync(java)) return 'install Java 11 or later';
  const firestoreJar = join(root, 'platform', 'cloud-firestore-emulator', 'cloud-firestore-emulator.jar');
  if (!existsSync(firestoreJar)) return 'gcloud components install cloud-firestore-emulator';
  const pubsubLib = join(root, 'platform', 'pubsub-emulator', 'lib');
  const pubsubJar = existsSync(pubsubLib)
    ? readdirSync(pubsubLib).find((name) => /^cloud-pubsub-emulator-.*-all\.jar$/.test(name))
    : undefined;
  if (pubsubJar === undefined) return 'gcloud components install pubsub-emulator';
  return { java, firestoreJar, pubsubJar: join(pubsubLib, pubsubJar) };
}

async function start(name: string, toArgs: (installation: Installation) => string[]): Promise<Emulator> {
  const installation = locate();
  if (typeof installation === 'string') throw new Error(`no ${name} emulator here: ${installation}`);
  const launch = (port: number): Promise<Running> =>
    launchJava(name, installation.java, [...toArgs(installation), '--host=127.0.0.1', `--port=${port}`], port);
  let running: Running | undefined;
  let port = 0;
  for (let attempt = 1; running === undefined; attempt++) {
    port = await freePort();
    // Somebody else may take the port between looking and starting.
    running = await launch(port).catch((error: unknown) => {
      if (attempt === START_ATTEMPTS) throw error;
      return undefined;
    });
  }
  let current = running;
  return {
    host: `127.0.0.1:${port}`,
    stop: () => current.stop(),
    async restart() {
      await current.stop();
      current = await launch(port);
    },
    async suspend() {
      current.signal('SIGSTOP');
      // Until the last of its threads has stopped, it answers.
      while (!current.isStopped()) await sleep(1);
    },
    resume: () => current.signal('SIGCONT'),
  };
}

interface Running {
  stop(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /** Whether every thread stands still. */
  isStopped(): boolean;
}

// The shell stays between us and java: when we end, whatever the reason, its standard input closes and it kills java.
// Its first line of output is java's process id.
const GUARD = `exec 3<&0
"$@" </dev/null 3<&- &
java=$!
echo "$java"
(cat <&3; kill -9 "$java") >/dev/null 2>&1 &
exec 3<&-
wait "$java"`;

async function launchJava(name: string, java: string, args: readonly string[], port: number): Promise<Running> {
  const child = spawn('sh', ['-c', GUARD, 'sh', java, '-XX:+UseSerialGC', ...args], {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const output = collect(child);
  const group = -(child.pid ?? 0);
  if (group === 0) throw new Error(`the ${name} emulator cannot be started: no shell`);
  const pidOf = (): number => Number(output.text.split('\n', 1)[0]);
  const running: Running = {
    stop: () => endGroup(group),
    signal(signal) {
      if (pidOf() > 0) process.kill(pidOf(), signal);
    },
    isStopped() {
      // Available on Linux only.
      if (!existsSync('/proc/self')) return true;
      const tasks = `/proc/${pidOf()}/task`;
      return readdirSync(tasks).every((id) => isStopped(`${tasks}/${id}/status`));
    },
  };
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await endGroup(group);
      throw new Error(`the ${name} emulator did not start:\n${output.text.slice(-2000)}`);
    }
    await sleep(POLL_MS);
  }
  return running;
}

function isStopped(statusFile: string): boolean {
  try {
    return /^State:\s+T/m.test(readFileSync(statusFile, 'latin1'));
  } catch {
    // A thread that has just ended: look again.
    return false;
  }
}

/** Keeps the first and last of what the emulator says, for the error message. */
function collect(child: ChildProcess): { readonly text: string } {
  const output = { text: '' };
  const take = (chunk: Buffer): void => {
    output.text = output.text.length < 100_000 ? output.text + chunk.toString() : output.text;
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  return output;
}

async function endGroup(group: number): Promise<void> {
  // A frozen process does not hear SIGTERM.
  for (const signal of ['SIGCONT', 'SIGTERM'] as const) if (!signalGroup(group, signal)) return;
  for (const deadline = Date.now() + TERM_GRACE_MS; Date.now() < deadline; await sleep(POLL_MS)) {
    if (!signalGroup(group, 0)) return;
  }
  while (signalGroup(group, 'SIGKILL')) await sleep(POLL_MS);
}

function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(group, signal);
  } catch {
    return false;
  }
}

/** Both emulators answer a plain GET once they serve. */
async function answers(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(1_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

function findOnPath(name: string): string | undefined {
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    const candidate = join(directory, name);
    if (directory !== '' && existsSync(candidate)) return realpathSync(candidate);
  }
  return undefined;
}
