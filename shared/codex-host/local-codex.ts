// The CodexHost port on the sandbox of this machine, for any number of gateway processes.
import { RpcError } from '../errors.ts';
import { removeLeftovers } from '../sandbox/workspace/run-mark.ts';
import { PREFIXES } from './app-server/directories.ts';
import { makeTemplate, type Template } from './app-server/template.ts';
import { CODEX_VERSION, findCodex, INSTALL_HINT } from './binary.ts';
import type { CodexHost, CodexSession } from './codex-host.ts';
import type { Launcher } from './launcher.ts';
import { type CodexPool, createPool, type PoolLimits } from './pool/pool.ts';
import { readRolloutFile, writeRolloutFile } from './rollout-files.ts';

export interface LocalCodexOptions {
  readonly launcher: Launcher;
  /** Path of the native program; undefined: that of the installed package. */
  readonly program: string | undefined;
  /** Directory of the machine for the files of app-servers, which are deleted when they end. */
  readonly directory: string;
  readonly limits?: PoolLimits | undefined;
  warn(message: string, error: unknown): void;
}

export interface LocalCodex {
  /** Version of Codex; undefined: it is not installed. */
  readonly version: string | undefined;
  /** Returns the port for one gateway process, which `link` identifies. Its app-servers serve no other process. */
  hostFor(link: string): CodexHost;
  /** As in pool.ts: the files of an owner's sessions are in its app-servers, and go with them. */
  readonly endOwner: CodexPool['endOwner'];
  /** Ends the app-servers of a gateway process that has disconnected, and waits for their end. */
  endLink(link: string): Promise<void>;
  /** Ends all app-servers and waits for their end. */
  close(): Promise<void>;
}

export function createLocalCodex(options: LocalCodexOptions): LocalCodex {
  const { launcher, directory } = options;
  let template: Template | undefined;
  let warming: Promise<void> | undefined;
  let models: Promise<string> | undefined;
  const pool = createPool(async (owner) => {
    const { startAppServer } = await import('./app-server/app-server.ts');
    return startAppServer({ launcher, binary: binary(), directory, catalog, owner, fill: template?.copyTo });
  }, options.limits);
  // A process that was killed has left the files of its owners' sessions.
  for (const prefix of Object.values(PREFIXES)) void removeLeftovers(directory, prefix);

  return {
    version: findCodex(options.program) && CODEX_VERSION,
    hostFor: (link) => ({
      missing: () => (findCodex(options.program) === undefined ? NOT_INSTALLED : undefined),
      warm() {
        warming ??= warm();
        return warming;
      },
      open: (owner, signal) => open({ owner, link }, signal),
    }),
    endOwner: pool.endOwner,
    endLink: pool.endLink,
    async close() {
      await Promise.all([pool.close(), warming]);
      await template?.close();
    },
  };

  function binary() {
    const found = findCodex(options.program);
    if (found !== undefined) return found;
    throw new RpcError('invalid_params', { data: { issues: [{ path: 'model', message: NOT_INSTALLED }] } });
  }

  /** Made once. */
  async function catalog(home: string): Promise<string> {
    const { makeModelCatalog } = await import('./app-server/model-catalog.ts');
    models ??= makeModelCatalog(binary().file, home);
    try {
      return await models;
    } catch (error) {
      models = undefined;
      throw error;
    }
  }

  async function warm(): Promise<void> {
    if (findCodex(options.program) === undefined) return;
    try {
      const { startAppServer } = await import('./app-server/app-server.ts');
      template = await makeTemplate(startAppServer, { launcher, binary: binary(), directory, catalog });
    } catch (error) {
      options.warn('codex could not be warmed up', error);
    }
  }

  async function open(key: { owner: string; link: string }, signal: AbortSignal): Promise<CodexSession> {
    const { appServer, release } = await pool.borrow(key, signal);
    const { id: processId, stdin, stdout, stderr, home, exit, gone } = appServer;
    const exited = gone.then(() => ({}));
    return {
      ...{ processId, stdin, stdout, stderr, exited, release },
      onRequest: exit.onRequest,
      readRollout: (path) => readRolloutFile(home, path),
      writeRollout: (path, bytes) => writeRolloutFile(home, path, bytes),
      end: appServer.end,
    };
  }
}

const NOT_INSTALLED = `Codex is not installed here: ${INSTALL_HINT}`;
