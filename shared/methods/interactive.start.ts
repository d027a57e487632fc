// `interactive.start`: starts a terminal in the caller's sandbox, or reconnects to a running one.
import { z } from 'zod';
import { issueTicket } from '../auth/tickets.ts';
import { ticketProtocols } from '../protocol.ts';
import { checkEnvironment } from '../sandbox/commands/environment.ts';
import { defineMethod, type MethodContext } from './define-method.ts';
import { Columns, Rows } from './schemas/interactive-schemas.ts';
import { Directory, SessionId } from './schemas/schemas.ts';
import { expectWatch, watchTerminal } from './watch-terminal.ts';

export const interactiveStart = defineMethod({
  name: 'interactive.start',
  summary: 'Starts a terminal in the caller’s sandbox, or reconnects to the running one of the session',
  scope: 'workspace',
  cost: 'work',
  runs: 'companion',
  needs: 'sandbox',
  params: z.strictObject({
    session_id: SessionId.optional().describe('Id of the terminal; the output of a running one is replayed'),
    shell: z
      .string()
      .min(1)
      .max(4096)
      .regex(/^[^\0=]+$/, 'must be a program, without "="')
      .optional()
      .describe('The program; default: bash, or sh if bash is missing'),
    cols: Columns.optional(),
    rows: Rows.optional(),
    cwd: Directory.optional(),
    env: z
      .record(z.string(), z.string())
      .superRefine((env, context) => {
        for (const { path, message } of checkEnvironment(env)) {
          context.addIssue({ code: 'custom', path: path.split('.').slice(1), message });
        }
      })
      .default({}),
    after_seq: z.int().min(0).default(0).describe('The last received `seq`; only later output is replayed'),
  }),
  result: z.object({
    session_id: z.string(),
    cols: z.int(),
    rows: z.int(),
    resumed: z.boolean().describe('The terminal was running already'),
    seq: z.int().describe('Sequence number of the last output so far'),
    attach: z
      .object({
        url: z.string().optional(),
        ticket: z.string(),
        protocols: z.array(z.string()).describe('For `new WebSocket(url, protocols)`'),
        expires_at: z.string().describe('ISO 8601'),
      })
      .optional()
      .describe('Over HTTP: open this WebSocket; after its first call with this session_id it receives the output'),
  }),
  errors: ['sandbox_unavailable', 'unavailable'],
  example: {
    params: { session_id: 'tty-session-456', shell: '/bin/bash', cols: 80, rows: 24 },
    result: { session_id: 'tty-session-456', cols: 80, rows: 24, resumed: false, seq: 0 },
  },
  async handle(params, context) {
    const { services, caller, connection, requestId } = context;
    const sessionId = params.session_id ?? services.ids.next('tty');
    const { shell, cwd, env, cols, rows } = params;
    const handle = { owner: caller.keyId, sessionId };
    const unexpect = connection && expectWatch(connection, sessionId);
    // The next message of the connection may be input for this terminal, so no await precedes the start.
    const [{ cols: width, rows: height, resumed, seq }] = await Promise.all([
      services.terminals.start(handle, {
        shell,
        cwd,
        env,
        requestId,
        ...(cols !== undefined && { cols }),
        ...(rows !== undefined && { rows }),
      }),
      params.session_id !== undefined &&
        services.conversations.markCompanionState(handle, 'terminal', { isStarted: false }),
    ]).catch((error: unknown) => {
      unexpect?.();
      throw error;
    });
    const result = { session_id: sessionId, cols: width, rows: height, resumed, seq };
    if (connection === undefined) return { ...result, attach: await attachTicket(context) };
    watchTerminal(connection, context, sessionId, params.after_seq);
    return result;
  },
});

async function attachTicket({ services, caller, requestMetadata, signal }: MethodContext) {
  const { ticket, expiresAtMs } = await issueTicket(services, caller, signal);
  return {
    ...(requestMetadata.socketUrl !== undefined && { url: requestMetadata.socketUrl }),
    ticket,
    protocols: ticketProtocols(ticket),
    expires_at: new Date(expiresAtMs).toISOString(),
  };
}
