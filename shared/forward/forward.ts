// Forwards calls that need a process to the companion, from instances that cannot start one. Scope, params and limits
// are checked before; notifications and the response are returned as if the call had run on this instance.
import { z } from 'zod';
import type { Config } from '../config/config.ts';
import { RunsOnCompanion } from '../engines/place.ts';
import { isReason, RpcError } from '../errors.ts';
import type { MethodContext } from '../methods/define-method.ts';
import type { AnyMethod, Registry } from '../rpc/method.ts';
import type { ForwardedFacts } from './call.ts';

export interface ForwardedCall extends ForwardedFacts {
  readonly method: string;
  readonly params: object;
  readonly signal: AbortSignal;
}

/**
 * Sends a call and yields the JSON-RPC messages that answer it. Throws RpcError `unavailable` when the companion cannot
 * be reached.
 */
export type Companion = (call: ForwardedCall) => AsyncIterable<unknown>;

const Failure = z.object({ message: z.string(), data: z.looseObject({ reason: z.string() }) });
/** The members that are passed on. */
const Message = z.union([
  z.object({ method: z.string(), params: z.record(z.string(), z.unknown()) }),
  z.object({ error: Failure }),
  z.object({ result: z.unknown() }),
]);

/**
 * Returns a registry in which calls that run on the companion are forwarded. `companion` undefined: the deployment
 * has no companion, and these calls answer `forbidden`. `turnsRun`: where calls that run a turn and need no process
 * run.
 */
export function forwardToCompanion(
  registry: Registry<MethodContext>,
  companion: Companion | undefined,
  turnsRun: Config['turnsRun'] = 'function',
): Registry<MethodContext> {
  return new Map([...registry].map(([name, method]) => [name, sent(method)]));

  function sent(method: AnyMethod<MethodContext>): AnyMethod<MethodContext> {
    if (method.runs === 'companion' || (method.isTurn === true && turnsRun === 'companion')) {
      return { ...method, handle: (params, context) => forward(method.name, params, context) };
    }
    if (method.placeOf === undefined) return method;
    return {
      ...method,
      async handle(params, context) {
        const place = await method.placeOf?.(params, context);
        if (place === 'companion') return forward(method.name, params, context);
        try {
          return await method.handle(params, { ...context, canForward: companion !== undefined });
        } catch (error) {
          if (error instanceof RunsOnCompanion) return forward(method.name, params, context);
          throw error;
        }
      },
    };
  }

  async function forward(method: string, params: object, context: MethodContext): Promise<unknown> {
    if (companion === undefined) {
      throw new RpcError('forbidden', {
        message: `Forbidden: this deployment has no companion service, which ${method} needs`,
        data: { disabled_by: 'deployment', disabled: method },
      });
    }
    // The companion does not count the call: it is sent when it is admitted here.
    await context.admitted;
    const { caller, requestId, requestMetadata, signal } = context;
    const transport = context.transport === 'http' ? 'http' : 'sse';
    for await (const line of companion({ method, params, caller, requestId, requestMetadata, transport, signal })) {
      const message = Message.safeParse(line);
      if (!message.success) throw new RpcError('upstream_error', { cause: message.error });
      if ('method' in message.data) {
        const { method: name, params: forwarded } = message.data;
        await context.notify(name, forwarded, toEventId(forwarded));
      } else if ('error' in message.data) throw toError(message.data.error);
      else return message.data.result;
    }
    throw new RpcError('unavailable', {
      message: 'the companion ended its response before it was complete',
      retryAfterMs: 1_000,
    });
  }
}

/** The id of an event of a turn, with which a client can resume after it. */
function toEventId({ turn_id, seq }: Readonly<Record<string, unknown>>): string | undefined {
  return typeof turn_id === 'string' && typeof seq === 'number' ? `${turn_id}:${seq}` : undefined;
}

function toError({ message, data }: z.output<typeof Failure>): RpcError {
  const { reason, request_id: _id, retryable, retry_after_ms, ...rest } = data;
  return new RpcError(isReason(reason) ? reason : 'internal', {
    message,
    data: rest,
    ...(typeof retryable === 'boolean' && { retryable }),
    ...(typeof retry_after_ms === 'number' && { retryAfterMs: retry_after_ms }),
  });
}
