// Serves the CodexHost port to a link. App-servers belong to a link and end with it. Requests of Codex to its provider
// are sent to the gateway side, which adds the credential.
import { randomUUID } from 'node:crypto';
import { type CodexHost, type CodexSession, ROLLOUT_BYTES_MAX } from '../../codex-host/codex-host.ts';
import type { LocalCodex } from '../../codex-host/local-codex.ts';
import { RpcError } from '../../errors.ts';
import type { HandlerContext, Handlers, Link, LinkStream } from '../link/link.ts';
import {
  CodexOpenParams,
  CodexProcessParams,
  CodexReleaseParams,
  CodexRolloutParams,
  readParams,
} from '../messages.ts';
import { endOf, readAll, writeTo } from '../streams.ts';
import { joinStreams } from './join-streams.ts';
import { forwardToGateway } from './provider-requests.ts';
import { withStreams } from './specs.ts';

/** The state of one link. */
interface LinkCodex {
  readonly host: CodexHost;
  /**
   * By process id: a session of each app-server whose streams are connected to the link. It is also used to access the
   * files of the app-server.
   */
  readonly processes: Map<string, CodexSession>;
  /** By handle: the sessions of turns that have borrowed an app-server. */
  readonly sessions: Map<string, CodexSession>;
}

export function createCodexHandlers(hosts: Pick<LocalCodex, 'hostFor'>): Handlers {
  const links = new WeakMap<Link, LinkCodex>();

  const of = (link: Link): LinkCodex => {
    const found = links.get(link) ?? { host: hosts.hostFor(link.id), processes: new Map(), sessions: new Map() };
    links.set(link, found);
    return found;
  };

  const find = (link: Link, processId: string): CodexSession => {
    const found = of(link).processes.get(processId);
    if (found === undefined) throw new RpcError('not_found', { message: 'Not found: no such Codex process runs' });
    return found;
  };

  async function open(params: unknown, context: HandlerContext, take: (id: number) => LinkStream): Promise<unknown> {
    const { link, signal } = context;
    const request = readParams(CodexOpenParams, params);
    const [io, errors] = [take(request.io), take(request.errors)];
    const { host, processes, sessions } = of(link);
    const session = await host.open(request.owner, signal);
    if (signal.aborted || io.destroyed) {
      session.release();
      signal.throwIfAborted();
      throw new RpcError('cancelled', { message: 'The streams of the start were reset' });
    }
    const { processId } = session;
    const isNew = !processes.has(processId);
    if (isNew) {
      processes.set(processId, session);
      void session.exited.then(() => processes.delete(processId));
      session.onRequest((provider, answer) => void forwardToGateway(link, processId, provider, answer));
      joinStreams(session, io, errors, () => void session.end());
    } else for (const stream of [io, errors]) stream.destroy();
    const handle = randomUUID();
    sessions.set(handle, session);
    return { session: handle, process_id: processId, is_new: isNew };
  }

  async function readRollout(params: unknown, link: Link, take: (id: number) => LinkStream): Promise<unknown> {
    const request = readParams(CodexRolloutParams, params);
    const stream = take(request.bytes);
    const bytes = await find(link, request.process_id).readRollout(request.path);
    stream.resume();
    if (bytes !== undefined) await writeTo(stream, bytes);
    await endOf(stream);
    return { found: bytes !== undefined };
  }

  async function writeRollout(
    params: unknown,
    { link, signal }: HandlerContext,
    take: (id: number) => LinkStream,
  ): Promise<unknown> {
    const request = readParams(CodexRolloutParams, params);
    const stream = take(request.bytes);
    const bytes = await readAll(stream, ROLLOUT_BYTES_MAX, signal);
    stream.end();
    await find(link, request.process_id).writeRollout(request.path, bytes);
    return null;
  }

  return {
    'codex.open': (params, context) => withStreams(context.link, (take) => open(params, context, take)),
    'codex.read_rollout': (params, { link }) => withStreams(link, (take) => readRollout(params, link, take)),
    'codex.write_rollout': (params, context) =>
      withStreams(context.link, (take) => writeRollout(params, context, take)),
    async 'codex.warm'(_params, { link }) {
      await of(link).host.warm();
      return null;
    },
    async 'codex.release'(params, { link }) {
      const { session } = readParams(CodexReleaseParams, params);
      const { sessions } = of(link);
      sessions.get(session)?.release();
      sessions.delete(session);
    },
    async 'codex.wait'(params, { link }) {
      const { process_id: processId } = readParams(CodexProcessParams, params);
      await of(link).processes.get(processId)?.exited;
      return null;
    },
    async 'codex.end'(params, { link }) {
      const { process_id: processId } = readParams(CodexProcessParams, params);
      await of(link).processes.get(processId)?.end();
      return null;
    },
  };
}
