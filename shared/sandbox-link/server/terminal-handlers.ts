// Serves the Terminals port to a link. A terminal belongs to an owner and a session, not to a link: it continues
// without a link, and every gateway process can use it.
import { RpcError } from '../../errors.ts';
import { checkEnvironment } from '../../sandbox/commands/environment.ts';
import type { TerminalHandle, Terminals } from '../../terminals/terminals.ts';
import type { HandlerContext, Handlers, Link, LinkStream } from '../link/link.ts';
import {
  readParams,
  TerminalInputParams,
  TerminalParams,
  TerminalResizeParams,
  TerminalSpec,
  TerminalStartParams,
  TerminalWatchParams,
} from '../messages.ts';
import { writeTo } from '../streams.ts';
import { encodeFrame } from '../terminal-frames.ts';
import { type Specs, withStreams } from './specs.ts';
import type { Starts } from './starts.ts';

export interface TerminalHandlersDeps {
  readonly terminals: Terminals;
  readonly starts: Starts;
  readonly specs: Specs;
}

type Take = (id: number) => LinkStream;

export function createTerminalHandlers({ terminals, starts, specs }: TerminalHandlersDeps): Handlers {
  async function start(params: unknown, context: HandlerContext, take: Take): Promise<unknown> {
    const request = readParams(TerminalStartParams, params);
    const {
      request_id: requestId,
      shell,
      cwd,
      env,
      cols,
      rows,
    } = await specs.read(TerminalSpec, take(request.spec), context);
    const issues = checkEnvironment(env);
    if (issues.length > 0) throw new RpcError('invalid_params', { data: { issues } });
    starts.enter(request.start_id);
    const size = { ...(cols !== undefined && { cols }), ...(rows !== undefined && { rows }) };
    const onlyRunning = request.only_running === true;
    return terminals.start(toHandle(request), { shell, cwd, env, requestId, onlyRunning, ...size });
  }

  async function watch(params: unknown, link: Link, take: Take): Promise<unknown> {
    const request = readParams(TerminalWatchParams, params);
    const output = take(request.output);
    const stop = await terminals.watch(
      toHandle(request),
      {
        output: (piece) => writeTo(output, encodeFrame(piece)),
        exit: (exitCode) => void output.end(encodeFrame({ exitCode })),
      },
      request.after_seq,
    );
    // When the link is over, the reader was unreachable already since the last message, `silentMs` ago.
    output.once('close', () => stop(link.silentMs)).resume();
    if (output.destroyed) stop();
    return null;
  }

  return {
    'terminal.start': (params, context) => withStreams(context.link, (take) => start(params, context, take)),
    'terminal.watch': (params, { link }) => withStreams(link, (take) => watch(params, link, take)),
    async 'terminal.input'(params) {
      const request = readParams(TerminalInputParams, params);
      return terminals.input(toHandle(request), request.data);
    },
    async 'terminal.resize'(params) {
      const { cols, rows, ...rest } = readParams(TerminalResizeParams, params);
      return terminals.resize(toHandle(rest), { cols, rows });
    },
    async 'terminal.close'(params) {
      const { exitCode } = await terminals.close(toHandle(readParams(TerminalParams, params)));
      return { exit_code: exitCode };
    },
  };
}

function toHandle({ owner, session }: { readonly owner: string; readonly session: string }): TerminalHandle {
  return { owner, sessionId: session };
}
