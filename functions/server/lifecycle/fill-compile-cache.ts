// A program that the build of a deployment runs after the dependencies are installed (`gcp-build` in package.json). It
// starts each function once, so that the instances find their modules in Node's compile cache and need not compile
// them: their start takes a tenth less time (`npm run bench cold-start`). It never fails, because functions start
// without a cache too. Node uses a cache only for the same version and user. Google's buildpacks build and run a
// function as the same user.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

/** Maximum time from the start of a function to its end. */
const TIMEOUT_MS = 30_000;
const TARGETS = ['health', 'jsonrpc', 'webhook', 'deployments'];
const KEY = 'build';
/** Nothing listens there: what a function loads for its services is compiled, and no service is used. */
const NOWHERE = '127.0.0.1:1';
const ENVIRONMENT = {
  PORT: '0',
  NODE_ENV: 'production',
  NODE_COMPILE_CACHE: join(import.meta.dirname, 'compile-cache'),
  METADATA_SERVER_DETECTION: 'none',
  FIRESTORE_EMULATOR_HOST: NOWHERE,
  PUBSUB_EMULATOR_HOST: NOWHERE,
  COMPANION_URL: `http://${NOWHERE}`,
  GOOGLE_CLOUD_PROJECT: 'build',
  GATEWAY_API_KEY: KEY,
};

/** Starts a function and ends it after its first answer: Node writes the cache at the end of a process. */
async function compile(target: string): Promise<void> {
  const framework = dirname(createRequire(import.meta.url).resolve('@google-cloud/functions-framework'));
  const child = spawn(process.execPath, [join(framework, 'main.js'), `--source=${import.meta.dirname}`], {
    env: { PATH: process.env.PATH, ...ENVIRONMENT, FUNCTION_TARGET: target },
    stdio: ['ignore', 'pipe', 'inherit'],
    signal: AbortSignal.timeout(TIMEOUT_MS),
    killSignal: 'SIGKILL',
  });
  // Rejects when it could not be started or has not ended in time.
  const ended = once(child, 'exit').catch(() => {});
  try {
    const answer = await fetch(`http://127.0.0.1:${await portOf(child)}/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': KEY },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.status', params: { session_id: 'none' } }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await answer.arrayBuffer();
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

async function portOf({ stdout }: ChildProcess): Promise<number> {
  for await (const line of stdout === null ? [] : createInterface({ input: stdout })) {
    const found = /"function listens".*"port":(\d+)/.exec(line);
    if (found !== null) return Number(found[1]);
  }
  throw new Error('it ended before it listened');
}

// The build is that of one function, which the buildpack names.
const { GOOGLE_FUNCTION_TARGET: only } = process.env;
for (const target of only === undefined ? TARGETS : [only]) {
  await compile(target).then(
    () => process.stdout.write(`${target}: its modules are compiled\n`),
    (error: unknown) =>
      process.stderr.write(`${target}: its modules are not compiled before its instances start: ${error}\n`),
  );
}
