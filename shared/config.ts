// The environment, read once and validated: one clear line per mistake. Nothing else in the house reads process.env.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { SCOPES, type Scope } from './auth/keys.ts';
import type { Limit } from './rate-limit/limiter.ts';

/** A key as configured; the plain key is turned into a digest by auth/key-document.ts and forgotten. */
export interface Config {
  readonly host: string;
  readonly port: number;
  /** Whether the process runs as a deployed function or service (K_SERVICE is set by Cloud Run). */
  readonly deployed: boolean;
  readonly limits: readonly Limit[];
  readonly dataDir: string;
  readonly store: 'embedded' | 'memory' | 'firestore';
  readonly bus: 'local' | 'pubsub';
  readonly keys: { readonly source: 'environment'; readonly document: string } | { readonly source: 'secret-manager' };
  readonly projectId: string | undefined;
  readonly topic: string;
  readonly model: string | undefined;
  readonly providers: {
    readonly anthropic?: { readonly apiKey: string; readonly baseUrl?: string };
    readonly openai?: { readonly apiKey: string; readonly baseUrl?: string };
    readonly google?: { readonly project: string; readonly location: string };
  };
  /** `whsec_...` and `github:...`. */
  readonly webhookSecrets: readonly string[];
  readonly allowedOrigins: ReadonlySet<string>;
  readonly logFormat: 'json' | 'pretty';
  /** Milliseconds; see design.md "Turns". Overridable so that fault tests need not wait half a minute. */
  readonly turns: { readonly leaseMs: number; readonly heartbeatMs: number; readonly timeoutMs: number };
}

export const LOCAL_KEY = 'dev-key';
const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);
const UNIT_MS: Readonly<Record<string, number>> = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };

/** All mistakes of an environment at once. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`configuration is not valid:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;
