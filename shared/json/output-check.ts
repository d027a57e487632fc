// Checks an answer against its JSON Schema, without a limit of time: output-checker.ts runs it within one, also as the
// program of a worker thread. `matchesSchema` may be interrupted on the main thread, because it shares no state with
// other code. `checkAnswer` may not: zod completes its classes when they are first used, so an interrupted call can
// leave one incomplete for the life of the thread, and with it all schemas that use it.
import { parentPort, workerData } from 'node:worker_threads';
import { CfWorkerJsonSchemaValidator } from '@modelcontextprotocol/client/validators/cf-worker';
import { z } from 'zod';
import type { Issue } from '../errors.ts';
import { findJson, type OutputSchema, toCheckedSchema } from './output-schema.ts';

const ISSUES_MAX = 20;
const PATH_CHARS_MAX = 200;
const MESSAGE_CHARS_MAX = 400;

export interface CheckJob {
  readonly schema: OutputSchema;
  readonly content: string;
}

/** The `workerData` of a thread whose program is this file. */
export const WORKER = 'output-check';
/** The address of this file, in a bundle too. */
export const workerUrl = new URL(import.meta.url);

/** Whether an answer matches; also false if that cannot be found out. */
export function matchesSchema({ schema, content }: CheckJob): boolean {
  try {
    const found = findJson(content);
    return found !== undefined && mismatch(toCheckedSchema(schema), withoutPrototypes(found.output)) === undefined;
  } catch {
    return false;
  }
}

/** What does not match; empty if all does. Only for a thread that ends when it is interrupted. */
export function checkAnswer({ schema, content }: CheckJob): readonly Issue[] {
  try {
    const found = findJson(content);
    if (found === undefined) return [{ path: 'output', message: 'is not JSON' }];
    return issuesOf(toCheckedSchema(schema), withoutPrototypes(found.output))
      .slice(0, ISSUES_MAX)
      .map(({ path, message }) => ({
        path: ['output', ...path].join('.').slice(0, PATH_CHARS_MAX),
        message: message.slice(0, MESSAGE_CHARS_MAX),
      }));
  } catch (error) {
    if (error instanceof RangeError) return TOO_DEEP;
    // A pattern that is too large to run, for example.
    const reason = error instanceof Error ? error.message : '';
    return [{ path: 'output', message: `cannot be checked: ${reason.slice(0, MESSAGE_CHARS_MAX)}` }];
  }
}

export const TOO_DEEP: readonly Issue[] = [{ path: 'output', message: 'takes too long, or is too deep, to check' }];

type Found = readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];

/** What does not match. Only the validator decides; zod, which supports fewer keywords, describes it better. */
function issuesOf(schema: OutputSchema, output: unknown): Found {
  const message = mismatch(schema, output);
  if (message === undefined) return [];
  const described = describe(schema, output);
  return described.length > 0 ? described : [{ path: [], message: `does not match the schema: ${message}` }];
}

function mismatch(schema: OutputSchema, output: unknown): string | undefined {
  const validate = new CfWorkerJsonSchemaValidator({ draft: '2020-12' }).getValidator(copyOf(schema));
  return validate(output).errorMessage;
}

/** Empty for a schema that zod does not support. */
function describe(schema: OutputSchema, output: unknown): Found {
  try {
    return z.fromJSONSchema(copyOf(schema)).safeParse(output).error?.issues ?? [];
  } catch (error) {
    if (error instanceof RangeError) throw error;
    return [];
  }
}

/** Validators add members to the schema. */
function copyOf(schema: OutputSchema): Record<string, unknown> {
  return JSON.parse(JSON.stringify(schema));
}

/** A copy in which a name such as `constructor` is no member that an object has by itself. */
function withoutPrototypes(output: unknown): unknown {
  return JSON.parse(JSON.stringify(output), (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.assign(Object.create(null), value)
      : value,
  );
}

if (workerData === WORKER) {
  parentPort?.on('message', (job: CheckJob) => parentPort?.postMessage(checkAnswer(job)));
  parentPort?.postMessage('ready');
}
