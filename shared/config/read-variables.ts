// Validates environment variables by their schemas. Reports all mistakes together, one line each; no line contains the
// value of a secret.
import type { z } from 'zod';
import { type Environment, trimEnvironment } from './environment.ts';
import { findMisspelt } from './values/spelling.ts';

/** All mistakes of an environment at once. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[], warnings: readonly string[] = []) {
    super(`configuration is not valid:\n${[...problems, ...warnings].map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

export interface ReadVariables<T> {
  /** A variable with a mistake counts as unset, so that the others can still be validated. */
  readonly settings: T;
  /** One line per mistake. The caller adds mistakes that it finds, and throws ConfigError. */
  readonly problems: string[];
  /** Variables that look misspelt. */
  readonly warnings: readonly string[];
}

const LINE_CHARS_MAX = 300;

export function readVariables<Shape extends z.ZodRawShape>(
  schema: z.ZodObject<Shape>,
  env: Environment,
): ReadVariables<z.output<z.ZodObject<Shape>>> {
  // An empty variable counts as unset, as in docker and CI settings.
  const given = Object.fromEntries(
    Object.entries(trimEnvironment({ ...env })).filter(([, value]) => value !== undefined && value !== ''),
  );
  // These variables also exist in lower case by convention; the lower-case value takes precedence.
  for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY']) {
    const small = given[name.toLowerCase()];
    if (small !== undefined) given[name] = small;
  }
  const warnings = findMisspelt(Object.keys(given), Object.keys(schema.shape));
  const parsed = schema.safeParse(given);
  const wrong = new Map(parsed.error?.issues.map(({ path, message }) => [String(path[0]), message]));
  const problems = [...wrong].map(([name, message]) => `${name}: ${toLine(message)}`);
  const settings =
    parsed.data ?? schema.parse(Object.fromEntries(Object.entries(given).filter(([name]) => !wrong.has(name))));
  return { settings, problems, warnings };
}

/** Converts a message to one line of bounded length, because it may quote a value. */
export function toLine(message: string): string {
  const line = message.replaceAll(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ');
  return line.length > LINE_CHARS_MAX ? `${line.slice(0, LINE_CHARS_MAX)}...` : line;
}
