// The CodexHost port over a link: app-servers in the sandbox service, one for each owner. Their requests to a provider
// arrive here; only those of app-servers that this process has opened are accepted.
import { bounded, settledWithin } from '../../async.ts';
import type { CodexHost, CodexSession, ProviderListener } from '../../codex-host/codex-host.ts';
import { ROLLOUT_BYTES_MAX } from '../../codex-host/codex-host.ts';
import { RpcError } from '../../errors.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import type { Handlers, Link, LinkStream } from '../link/link.ts';
import { CodexOpenAnswer, CodexRolloutAnswer, Nothing, ProviderParams, readParams } from '../messages.ts';
import { closed, readAll } from '../streams.ts';
import { call, openLink } from './calls.ts';
import { broken, lost, silent } from './failures.ts';

const WHAT = 'The Codex turn';
/** For the answer to `codex.end`, and from then to the end of the streams. */
const END_MS = 10_000;
const CLOSE_MS = 5_000;
const ROLLOUT_MS = 30_000;

/** An app-server whose streams are connected to this process. */
interface RemoteProcess {
  readonly owner: string;
  readonly link: Link;
  readonly io: LinkStream;
  readonly errors: LinkStream;
  readonly exited: CodexSession['exited'];
  /** Stops waiting for a service that does not report the end: resolves `exited`. */
  abandon(): void;
  listener: ProviderListener | undefined;
}

export interface RemoteCodex {
  readonly host: CodexHost;
  /** Handlers of the requests that the sandbox sends to this side. */
  readonly handlers: Handlers;
}

/** `keeper` is a function, because the link is created with the handlers that this function returns. */
export function createRemoteCodex(keeper: () => LinkKeeper): RemoteCodex {
  const processes = new Map<string, RemoteProcess>();

  async function open(owner: string, signal: AbortSignal): Promise<CodexSession> {
    signal.throwIfAborted();
    const link = await openLink(keeper(), signal);
    const [io, errors] = [link.openStream(), link.openStream()];
    const reset = (): void => {
      for (const stream of [io, errors]) stream.destroy();
    };
    try {
      const params = { owner, io: io.id, errors: errors.id };
      const answer = await call(link, 'codex.open', params, { answer: CodexOpenAnswer, what: WHAT, signal });
      const { session, process_id: processId, is_new: isNew } = answer;
      if (!isNew) reset();
      const running = isNew ? attach(processId, { owner, link, io, errors }) : processes.get(processId);
      // The sandbox must not return the process of another owner or of another link.
      if (running?.owner !== owner || running.link !== link) throw broken(WHAT, new Error('another process'));
      return toSession(running, processId, session);
    } catch (error) {
      reset();
      throw error;
    }
  }

  function attach(
    processId: string,
    parts: Omit<RemoteProcess, 'exited' | 'abandon' | 'listener'>,
  ): RemoteProcess | undefined {
    if (processes.has(processId)) return undefined;
    const { link, io, errors } = parts;
    errors.end();
    const abandoned = new AbortController();
    const wait = { answer: Nothing, what: WHAT, signal: abandoned.signal, timeoutMs: Number.POSITIVE_INFINITY };
    const exit = call(link, 'codex.wait', { process_id: processId }, wait).catch(() => {});
    void exit.then(() => io.end());
    const exited = Promise.all([exit, closed(io)]).then(() => {
      errors.destroy();
      processes.delete(processId);
      return link.over.aborted ? { failure: lost(WHAT, link.over.reason) } : {};
    });
    const abandon = (): void => {
      abandoned.abort();
      io.destroy();
    };
    const running: RemoteProcess = { ...parts, exited, abandon, listener: undefined };
    processes.set(processId, running);
    return running;
  }

  function handleProviderRequest(params: unknown, link: Link): Promise<unknown> {
    const { process_id: processId, method, path, headers, ...streams } = readParams(ProviderParams, params);
    const running = processes.get(processId);
    if (running?.link !== link || running.listener === undefined) {
      throw new RpcError('not_found', { message: 'Not found: no such Codex process runs' });
    }
    const { listener } = running;
    const body = link.takeStream(streams.body);
    const back = link.takeStream(streams.answer);
    body.end();
    back.resume();
    return new Promise((resolve, reject) => {
      back.once('close', () => reject(new RpcError('cancelled', { message: 'The request was not answered' })));
      const writeHead = (status: number, of: object): void => resolve({ status, headers: of });
      listener({ method, path, headers, body }, { body: back, writeHead });
    });
  }

  return {
    host: {
      missing() {
        const { link } = keeper();
        if (link === undefined || link.sandbox.codexVersion !== undefined) return undefined;
        return 'Codex is not installed in the sandbox service';
      },
      async warm() {
        try {
          await call(await openLink(keeper()), 'codex.warm', {}, { answer: Nothing, what: WHAT });
        } catch {
          // The next turn starts without the preparation.
        }
      },
      open,
    },
    handlers: { 'provider.request': async (params, { link }) => handleProviderRequest(params, link) },
  };
}

function toSession(running: RemoteProcess, processId: string, session: string): CodexSession {
  const { link, io, errors, exited } = running;
  let isReleased = false;

  return {
    ...{ processId, stdin: io, stdout: io, stderr: errors, exited },
    onRequest(listener) {
      running.listener = listener;
    },
    readRollout: (path) => readRollout(link, processId, path),
    writeRollout: (path, bytes) => writeRollout(link, processId, path, bytes),
    release() {
      if (!isReleased) link.notify('codex.release', { session });
      isReleased = true;
    },
    async end() {
      const answer = { answer: Nothing, what: WHAT, timeoutMs: END_MS };
      io.resume();
      errors.resume();
      await call(link, 'codex.end', { process_id: processId }, answer).catch(() => io.destroy());
      if (!(await settledWithin(CLOSE_MS, exited))) running.abandon();
      await exited;
    },
  };
}

async function readRollout(link: Link, processId: string, path: string): Promise<Buffer | undefined> {
  const stream = link.openStream();
  try {
    stream.end();
    return await bounded({ timeoutMs: ROLLOUT_MS, toTimeout: () => silent(WHAT) }, async ({ signal }) => {
      const bytes = readAll(stream, ROLLOUT_BYTES_MAX, AbortSignal.any([link.over, signal]));
      bytes.catch(() => {});
      const params = { process_id: processId, path, bytes: stream.id };
      const options = { answer: CodexRolloutAnswer, what: WHAT, signal };
      const { found } = await call(link, 'codex.read_rollout', params, options);
      return found ? await bytes : undefined;
    });
  } catch (error) {
    if (link.over.aborted) throw lost(WHAT, error);
    throw error instanceof RpcError && error.reason === 'payload_too_large' ? broken(WHAT, error) : error;
  } finally {
    stream.destroy();
  }
}

async function writeRollout(link: Link, processId: string, path: string, bytes: Uint8Array): Promise<void> {
  const stream = link.openStream();
  try {
    stream.end(bytes);
    stream.resume();
    const params = { process_id: processId, path, bytes: stream.id };
    await call(link, 'codex.write_rollout', params, { answer: Nothing, what: WHAT });
  } finally {
    stream.destroy();
  }
}
