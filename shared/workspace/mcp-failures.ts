// What went wrong with an MCP server, as an error of the table: whose fault it is, bounded, and without anything but the server's own words.
import { ProtocolError, SdkError, SdkErrorCode, SdkHttpError } from '@modelcontextprotocol/client';
import { RpcError } from '../errors.ts';

const MESSAGE_CHARS_MAX = 500;
const DEPTH_MAX = 64;

/** What is known of the server at the time. */
export interface FailureFacts {
  readonly name: string;
  /** Why this side ended the connection. */
  readonly failure?: RpcError | undefined;
  /** It ended by itself. */
  readonly exitCode?: number | undefined;
  /** The end of its stderr, where the caller may see it. */
  readonly stderr?: string | undefined;
}

export function toMcpError(error: unknown, { name, failure, exitCode, stderr }: FailureFacts): RpcError {
  if (failure !== undefined) return failure;
  for (let cause: unknown = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    if (cause instanceof RpcError) return cause;
  }
  const data = {
    server: name,
    ...(exitCode !== undefined && { exit_code: exitCode }),
    ...(stderr !== undefined && stderr !== '' && { stderr }),
  };
  if (exitCode !== undefined) {
    return new RpcError('upstream_error', {
      message: `MCP server "${name}" ended with exit code ${exitCode}`,
      data,
      retryable: false,
      cause: error,
    });
  }
  if (error instanceof SdkError && error.code === SdkErrorCode.RequestTimeout) {
    return new RpcError('upstream_timeout', {
      message: `MCP server "${name}" did not answer in time`,
      data,
      cause: error,
    });
  }
  if (error instanceof SdkHttpError) {
    return new RpcError('upstream_error', {
      message: `MCP server "${name}" answered HTTP ${error.status}`,
      data: { ...data, status: error.status },
      retryable: error.status >= 500 || error.status === 429,
      cause: error,
    });
  }
  if (error instanceof ProtocolError) {
    return new RpcError('upstream_error', {
      message: `MCP server "${name}" answered: ${error.message.slice(0, MESSAGE_CHARS_MAX)}`,
      data: { ...data, mcp_code: error.code },
      retryable: false,
      cause: error,
    });
  }
  const what = error instanceof Error ? error.message.slice(0, MESSAGE_CHARS_MAX) : 'unknown failure';
  return new RpcError('upstream_error', { message: `MCP server "${name}" failed: ${what}`, data, cause: error });
}

/** Throws for a value nested deeper than our own parser takes: writing it as JSON would exhaust the stack. */
export function checkDepth(value: unknown, name: string): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH_MAX) {
      throw new RpcError('upstream_error', {
        message: `MCP server "${name}" answered with data nested deeper than ${DEPTH_MAX} levels`,
        retryable: false,
      });
    }
    level = level.flatMap((item) => (typeof item === 'object' && item !== null ? Object.values(item) : []));
  }
}
