// The Codex engine before its first turn: checks whether it can run here, and imports it at its first use.
import { join } from 'node:path';
import { RpcError } from '../../errors.ts';
import type { Engine, EngineState } from '../engine.ts';
import type { CodexOptions } from './engine.ts';
import { findCodex, INSTALL_HINT } from './server/binary.ts';
import type { Launcher } from './server/launcher.ts';
import type { PoolLimits } from './server/pool.ts';

/** The dependencies of the engine. */
export interface CodexDeps {
  readonly launcher: Launcher;
  readonly state: EngineState;
  /** The gateway's data directory on this machine. */
  readonly dataDir: string;
  readonly limits?: PoolLimits;
  warn(message: string, error: unknown): void;
}

export interface CodexSettings {
  /** Path of the native program; undefined: the installed package's. */
  readonly program: string | undefined;
  /** The deployment's own key; undefined: only callers' own credentials. */
  readonly apiKey: string | undefined;
  readonly baseUrls: CodexOptions['baseUrls'];
  readonly proxy?: CodexOptions['proxy'] | undefined;
}

export interface LazyCodex {
  /** Throws RpcError `invalid_params` about the model when Codex cannot run here, saying what is missing. */
  readonly engine: () => Engine;
  /** Prepares for the first turn, where Codex can run here. Never throws. */
  warm(): Promise<void>;
  close(): Promise<void>;
}

export function createLazyCodex(settings: CodexSettings, deps: CodexDeps | undefined): LazyCodex {
  let opened: ReturnType<typeof open> | undefined;
  const engine: Engine = {
    async *run(turn, options) {
      opened ??= open();
      return yield* (await opened).run(turn, options);
    },
  };
  return {
    engine() {
      if (deps === undefined) throw refuse('Codex does not run in this process');
      if (findCodex(settings.program) === undefined) throw refuse(`Codex is not installed here: ${INSTALL_HINT}`);
      return engine;
    },
    async warm() {
      if (deps === undefined || findCodex(settings.program) === undefined) return;
      opened ??= open();
      await opened.then((codex) => codex.warm()).catch(() => undefined);
    },
    async close() {
      await opened?.then((codex) => codex.close());
    },
  };

  async function open() {
    const { createCodexEngine } = await import('./engine.ts');
    const binary = findCodex(settings.program);
    if (deps === undefined || binary === undefined) throw refuse(`Codex is not installed here: ${INSTALL_HINT}`);
    const { dataDir, ...rest } = deps;
    const { apiKey, baseUrls, proxy } = settings;
    return createCodexEngine({ ...rest, apiKey, baseUrls, proxy, binary, directory: join(dataDir, 'codex') });
  }
}

function refuse(message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path: 'model', message }] } });
}
