// Maps a failure of an MCP server to an RpcError that says which side caused it and whether a retry can help. The
// message is one bounded line that names the server and quotes nothing but the server.
import {
  ProtocolError,
  SdkError,
  SdkErrorCode,
  SdkHttpError,
  UnsupportedProtocolVersionError,
} from '@modelcontextprotocol/client';
import { ERRORS, RpcError, type RpcErrorOptions } from '../errors.ts';
import { SessionGone } from './session-gone.ts';

const MESSAGE_CHARS_MAX = 500;
const DEPTH_MAX = 64;

/** Facts about the server at the time of the failure. */
export interface FailureFacts {
  readonly name: string;
  /** Why the gateway closed the connection. */
  readonly failure?: Error | undefined;
  /** Set if the process ended by itself. */
  readonly exitCode?: number | undefined;
  /** The end of stderr, if the caller may see it. */
  readonly stderr?: string | undefined;
}

/** Messages for HTTP statuses with one meaning in MCP. Others are `refused the request`, or `failed` from 500 on. */
const STATUSES: Readonly<Record<number, string>> = {
  401: 'refused the credentials',
  403: 'refused the credentials',
  404: 'has no MCP endpoint at its URL',
  405: 'has no MCP endpoint at its URL',
  429: 'limits the rate of calls',
};

export function toMcpError(error: unknown, facts: FailureFacts): RpcError {
  const { name, failure, exitCode, stderr } = facts;
  if (failure !== undefined) return withServerName(name, failure);
  for (let cause: unknown = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    if (cause instanceof RpcError) return withServerName(name, cause);
  }
  const known = {
    server: name,
    ...(exitCode !== undefined && { exit_code: exitCode }),
    ...(stderr !== undefined && stderr !== '' && { stderr }),
  };
  // Without `cause`, which log lines quote: the SDK's message contains the whole body of an HTTP error.
  const fail = (what: string, { data, ...options }: RpcErrorOptions = {}): RpcError =>
    new RpcError('upstream_error', {
      message: `MCP server "${name}" ${oneLine(what)}`,
      data: { ...known, ...data },
      ...options,
    });
  if (exitCode !== undefined) return fail(`ended with exit code ${exitCode}`, { retryable: false });
  if (error instanceof SdkHttpError) {
    const { status } = error;
    const retryable = status >= 500 || status === 429 || status === 408;
    const what = STATUSES[status] ?? (status >= 500 ? 'failed' : 'refused the request');
    return fail(`${what} (HTTP ${status})${status === 400 ? messageOf(error) : ''}`, { data: { status }, retryable });
  }
  if (error instanceof ProtocolError) {
    return fail(`returned an error: ${error.message}`, { data: { mcp_code: error.code }, retryable: false });
  }
  if (error instanceof SdkError) {
    if (error.code === SdkErrorCode.RequestTimeout) {
      const message = `MCP server "${name}" did not answer in time`;
      return new RpcError('upstream_timeout', { message, data: known, cause: error });
    }
    if (error.code === SdkErrorCode.ConnectionClosed) return fail('closed the connection');
    return fail(`violated the protocol: ${error.message}`, { retryable: false });
  }
  if (error instanceof SyntaxError) return fail('sent a response that is not JSON', { retryable: false });
  if (error instanceof Error && error.name === 'ZodError') {
    return fail('sent a response that is not a message of the protocol', { retryable: false });
  }
  return fail(`failed: ${error instanceof Error ? error.message : 'unknown failure'}`);
}

/** For a request on an established connection. Returns SessionGone if a new connection may serve the request. */
export function toRequestError(error: unknown, facts: FailureFacts): RpcError {
  const failure = toMcpError(error, facts);
  if (facts.failure !== undefined || facts.exitCode !== undefined) return failure;
  const isGone =
    error instanceof UnsupportedProtocolVersionError ||
    (error instanceof SdkHttpError &&
      (error.status === 404 || (error.status === 400 && /session|not initialized/i.test(textOf(error)))));
  return isGone ? new SessionGone(failure) : failure;
}

/**
 * For a tool call that may have run. A retry is safe when nothing was sent, when the server refused the call (429,
 * 503), and for tools annotated as read-only or idempotent.
 */
export function toCallError(error: RpcError, isRepeatable: boolean, isUnsent: boolean): RpcError {
  if (error instanceof SessionGone) return error;
  const { reason, message, data, retryAfterMs, cause } = error;
  const isRefused = data.status === 429 || data.status === 503;
  if (!error.retryable || isRepeatable || isUnsent || isRefused || !reason.startsWith('upstream')) return error;
  return new RpcError(reason, {
    message,
    data,
    retryable: false,
    cause,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/**
 * Throws for a value nested deeper than the gateway's JSON parser accepts, because serializing it would exhaust the
 * stack.
 */
export function checkDepth(value: unknown, name: string): void {
  if (!isDeep(value)) return;
  throw new RpcError('upstream_error', {
    message: `MCP server "${name}" sent data nested deeper than ${DEPTH_MAX} levels`,
    data: { server: name },
    retryable: false,
  });
}

export function isDeep(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH_MAX) return true;
    level = level.flatMap((item) => (typeof item === 'object' && item !== null ? Object.values(item) : []));
  }
  return false;
}

/** Adds the name of the server to a failure of the gateway or of the network. */
function withServerName(name: string, error: Error): RpcError {
  if (!(error instanceof RpcError)) {
    const message = `MCP server "${name}": ${oneLine(error.message)}`;
    return new RpcError('upstream_error', { message, data: { server: name }, retryable: false, cause: error });
  }
  const { reason, data, retryable, retryAfterMs, cause } = error;
  const isOurs = reason === 'forbidden' || reason.startsWith('upstream');
  if (!isOurs || data.server !== undefined) return error;
  return new RpcError(reason, {
    message: `MCP server "${name}": ${error.message}`,
    data: { ...data, server: name },
    ...(retryable !== ERRORS[reason].retryable && { retryable }),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    cause,
  });
}

function textOf({ data }: SdkHttpError): string {
  return typeof data.text === 'string' ? data.text : '';
}

/** The message of a JSON-RPC error in the body of an HTTP error. */
function messageOf(error: SdkHttpError): string {
  const message = /"message"\s*:\s*"([^"\\]{1,200})"/.exec(textOf(error))?.[1];
  return message === undefined ? '' : `: ${message}`;
}

function oneLine(text: string): string {
  return text.replaceAll(/[\s\p{Cc}]+/gu, ' ').slice(0, MESSAGE_CHARS_MAX);
}
