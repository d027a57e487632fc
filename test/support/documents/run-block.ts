// Runs a shell block of a document as it would be pasted: with bash, and every answer of curl kept for inspection.
// Blocks for a cloud run with substitutes for the programs that call it; the substitutes record their arguments.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { ROOT } from '../fixtures/gateway/local-gateway.ts';

const TIMEOUT_MS = 30_000;
/** A pipe keeps curl's own output; each answer also goes to a file of its own, whatever runs at the same time. */
const KEEP_ANSWERS = `set -euo pipefail
curl() { command curl "$@" | tee "$(mktemp "$SCRATCH/answers/XXXXXXXX")"; }
`;

const Response = z.union([
  z.object({ jsonrpc: z.literal('2.0'), result: z.looseObject({}) }),
  z.object({ status: z.literal('accepted'), event_id: z.string() }),
]);
const Cancelled = z.object({ error: z.object({ data: z.object({ reason: z.literal('cancelled') }) }) });

/**
 * Throws when a command fails, or an answer of the gateway is not a result. Returns the number of answers, and stdout.
 */
export function runShell(
  text: string,
  env: Readonly<Record<string, string>>,
  cwd = ROOT,
): { readonly answers: number; readonly stdout: string } {
  const scratch = mkdtempSync(join(tmpdir(), 'shell-block-'));
  try {
    mkdirSync(join(scratch, 'answers'));
    const stdout = bash(`${KEEP_ANSWERS}${text}`, { ...env, SCRATCH: scratch }, cwd);
    const files = readdirSync(join(scratch, 'answers'));
    const responses = files.flatMap((file) => readResponses(readFileSync(join(scratch, 'answers', file), 'utf8')));
    // A block that cancels a prompt receives two answers; that of the prompt is the error `cancelled`.
    const mayBeCancelled = text.includes('conversation.cancel');
    for (const response of responses) {
      if (Response.safeParse(response).success) continue;
      if (mayBeCancelled && Cancelled.safeParse(response).success) continue;
      throw new Error(`not a result: ${JSON.stringify(response)}`);
    }
    return { answers: files.length, stdout };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/**
 * The responses in one answer: JSON, a batch, or the end of a stream of Server-Sent Events. Throws when there is none.
 */
function readResponses(answer: string): unknown[] {
  const data = [...answer.matchAll(/^data: (.*)$/gm)].map(([, json = '']): unknown => JSON.parse(json));
  const messages = data.length > 0 ? data : [JSON.parse(answer)].flat();
  const responses = messages.filter(
    (message) => typeof message !== 'object' || message === null || !('method' in message),
  );
  if (responses.length === 0) throw new Error(`an answer without a response: ${answer}`);
  return responses;
}

/** One call of a substitute. */
export interface CloudCall {
  readonly program: string;
  readonly args: readonly string[];
  readonly stdin: string;
}

/** Reads stdin only where the arguments name it, else a call without input would wait for it. */
const SUBSTITUTES = `set -euo pipefail
record() {
  local call stdin=/dev/null
  call=$(mktemp "$SCRATCH/calls/$(printf %03d "$(ls "$SCRATCH/calls" | wc -l)")XXXXXXXX")
  case "$*" in *=-|*=-\\ *|*\\ @-*) stdin=/dev/stdin;; esac
  { printf '%s\\0' "$@"; printf '\\1'; cat "$stdin"; } >"$call"
}
gcloud() {
  record gcloud "$@"
  case "$*" in
    *print-access-token*) echo a-token;;
    *'subscriptions pull'*) cat "$SCRATCH/pulled.json";;
  esac
}
for program in terraform npm curl git bash; do eval "$program() { record $program \\"\\$@\\"; }"; done
`;

/**
 * Runs a block with substitutes for gcloud, terraform, npm, curl, git and bash. `pulled`: the answer of a Pub/Sub pull.
 * Throws when a command fails.
 */
export function runCloud(text: string, { pulled }: { readonly pulled: unknown }): CloudCall[] {
  const scratch = mkdtempSync(join(tmpdir(), 'cloud-block-'));
  try {
    mkdirSync(join(scratch, 'calls'));
    writeFileSync(join(scratch, 'pulled.json'), JSON.stringify(pulled));
    bash(
      `${SUBSTITUTES}${text}`,
      { SCRATCH: scratch, GATEWAY_URL: 'https://gateway.example.com', KEY: 'a-key' },
      scratch,
    );
    const files = readdirSync(join(scratch, 'calls')).toSorted();
    return files.map((file) => {
      const [line = '', stdin = ''] = readFileSync(join(scratch, 'calls', file), 'utf8').split('\u0001');
      const [program = '', ...args] = line.split('\0').slice(0, -1);
      return { program, args, stdin };
    });
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function bash(script: string, env: Readonly<Record<string, string>> & { SCRATCH: string }, cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync('bash', ['-c', script], {
    cwd,
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      LANG: 'C.UTF-8',
      ...env,
      HOME: env.SCRATCH,
    },
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  if (status !== 0) throw new Error(`bash: ${status} ${stderr}${stdout}`, { cause: error });
  return stdout;
}
