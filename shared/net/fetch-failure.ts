// Maps a failure of the HTTP client to an error of the table, with a message about the cause, and with `sent` if the
// request may have been sent.
import { RpcError } from '../errors.ts';

/** Messages of failures before any byte of the request was sent, by error code of the system or of the HTTP client. */
const NOT_SENT: Readonly<Record<string, string>> = {
  EAI_AGAIN: 'the name of the backend could not be resolved',
  ECONNREFUSED: 'the backend refused the connection',
  EHOSTUNREACH: 'the backend could not be reached',
  ENETUNREACH: 'the backend could not be reached',
  ENOTFOUND: 'the name of the backend could not be resolved',
  UND_ERR_CONNECT_TIMEOUT: 'the backend did not accept a connection in time',
};
const CUT: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);
const CERTIFICATE = /CERT|UNABLE_TO_VERIFY|SIGNATURE/;

/** Whether a fetch failed before any byte was sent, so that a retry cannot execute a request twice. */
export function isUnsent({ data }: RpcError): boolean {
  return typeof data.code === 'string' && (Object.hasOwn(NOT_SENT, data.code) || CERTIFICATE.test(data.code));
}

/** Maps any error of the HTTP client to an RpcError; the signal's reason when it was aborted, an RpcError unchanged. */
export function toFailure(error: unknown, signal: AbortSignal | null | undefined): unknown {
  let code: string | undefined;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof RpcError) return cause;
    if ('code' in cause && typeof cause.code === 'string') code = cause.code;
  }
  const timedOut =
    signal?.aborted === true && signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
  if (signal?.aborted === true && !timedOut) return signal.reason;
  const isSlow =
    timedOut || /Timeout/.test(`${nameOf(error)} ${nameOf(error instanceof Error ? error.cause : undefined)}`);
  const unsent = code === undefined ? undefined : NOT_SENT[code];
  if (isSlow) {
    const message = unsent ?? 'the backend did not answer in time';
    return new RpcError('upstream_timeout', { message, data: { ...(unsent && { code }) }, cause: error });
  }
  const isUntrusted = code !== undefined && CERTIFICATE.test(code);
  const isCut = code !== undefined && CUT.has(code);
  const other = isCut
    ? 'the connection to the backend ended before its answer was complete'
    : 'the backend could not be reached';
  return new RpcError('upstream_error', {
    message: unsent ?? (isUntrusted ? `the certificate of the backend is not valid (${code})` : other),
    data: { ...(code !== undefined && { code }) },
    ...(isUntrusted && { retryable: false }),
    cause: error,
  });
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : '';
}
