// The Codex engine before its first turn: checks whether Codex can run, and imports the engine at its first use.
import type { CodexHost } from '../../codex-host/codex-host.ts';
import { RpcError } from '../../errors.ts';
import type { Engine, EngineState } from '../engine.ts';
import type { CodexOptions } from './engine.ts';

/** The dependencies of the engine. */
export interface CodexDeps {
  readonly host: CodexHost;
  readonly state: EngineState;
  warn(message: string, error: unknown): void;
}

/** The key of the deployment, and the base URLs of the providers. */
export type CodexSettings = Pick<CodexOptions, 'apiKey' | 'baseUrls' | 'proxy'>;

export interface LazyCodex {
  /** Throws RpcError `invalid_params` for the model if Codex cannot run; the message says what is missing. */
  readonly engine: () => Engine;
  /** Prepares the first turn, if Codex can run. Never throws. */
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
      const missing = deps.host.missing();
      if (missing !== undefined) throw refuse(missing);
      return engine;
    },
    async warm() {
      if (deps === undefined || deps.host.missing() !== undefined) return;
      opened ??= open();
      await Promise.all([deps.host.warm(), opened.catch(() => undefined)]);
    },
    async close() {
      await opened?.then((codex) => codex.close());
    },
  };

  async function open() {
    const { createCodexEngine } = await import('./engine.ts');
    if (deps === undefined) throw refuse('Codex does not run in this process');
    return createCodexEngine({ ...settings, ...deps });
  }
}

function refuse(message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path: 'model', message }] } });
}
