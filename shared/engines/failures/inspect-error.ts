// Reads the errors of the AI SDK. This is the only file that does; their bodies, headers and requests are never passed
// on, except the provider's message without secrets.
import { isObject, type JsonObject } from '../../json/json-object.ts';
import { NotAStream } from './not-a-stream.ts';
import { clean, readProviderMessage } from './provider-message.ts';

/** The SDK's error for a stream of chat completions that ends without a reason for its end. */
const NO_END = 'AI_InvalidResponseDataError';

/** The properties of a thrown error that decide how it is reported. */
export interface InspectedError {
  readonly name: string;
  readonly status: number | undefined;
  readonly headers: JsonObject;
  /** The provider's message, truncated and without keys; '' if there is none. */
  readonly providerMessage: string;
  /** The provider's error codes, separated by spaces; '' if there is none. */
  readonly code: string;
  /** The answer ended before its end. */
  readonly isCut: boolean;
  /** The request failed without an HTTP response. */
  readonly isNetwork: boolean;
  /** Error code of the system or of the HTTP client, e.g. ECONNREFUSED; '' if there is none. */
  readonly networkCode: string;
  /** The response was no stream of events. */
  readonly notStream: NotAStream | undefined;
  /** The provider has sent `x-should-retry: false`. */
  readonly noRetry: boolean;
}

/**
 * Reads the SDK's two error shapes by their members: APICallError, and the payload of a stream's error event. All
 * `secrets` are removed from the provider's message.
 */
export function inspectError(thrown: unknown, secrets: readonly string[]): InspectedError {
  const members = toRecord(thrown);
  const type = typeof members.type === 'string' ? clean(members.type, secrets) : typeof thrown;
  const name = thrown instanceof Error ? thrown.name : type;
  const causes = causesOf(thrown);
  // The error of a stream of chat completions, which the SDK passes on as it came.
  const isEvent = !(thrown instanceof Error) && typeof members.message === 'string';
  const status = typeof members.statusCode === 'number' ? members.statusCode : isEvent ? toStatus(members) : undefined;
  const notStream = causes.find((cause) => cause instanceof NotAStream);
  const body = notStream?.sample ?? (typeof members.responseBody === 'string' ? members.responseBody : undefined);
  const isProviders = isEvent || name === 'AI_APICallError' || status !== undefined || isObject(members.data);
  const message = String(members.message ?? '');
  // The message of a parse error quotes the answer, so it is not used.
  const own = isProviders || /credentials|invalid_grant|reauth/i.test(message) ? message : '';
  const fromBody = body === undefined ? undefined : readProviderMessage(body, secrets);
  const fromData = readProviderMessage(JSON.stringify(members.data ?? {}), secrets);
  const isNetwork = status === undefined && name === 'AI_APICallError';
  const isCut = (status !== undefined && status < 300 && notStream === undefined) || name === NO_END;
  /** Without a body, the message is the text of the status; that of an empty stream is the SDK's own. */
  const isBare = body === '' && notStream === undefined;
  const headers = toRecord(members.responseHeaders);
  return {
    name,
    status,
    headers,
    providerMessage:
      isNetwork || isCut ? '' : fromBody?.text || (body === undefined || isBare ? clean(own, secrets) : ''),
    code: `${fromBody?.code ?? ''} ${fromData.code} ${typeof members.code === 'string' ? members.code : ''}`.trim(),
    isCut,
    isNetwork,
    networkCode:
      causes.flatMap((cause) => ('code' in cause && typeof cause.code === 'string' ? [cause.code] : [])).at(-1) ?? '',
    notStream,
    noRetry: headers['x-should-retry'] === 'false',
  };
}

/** Names of errors in error events, and the status of a response that reports the same. */
const STATUS_OF_NAME: readonly (readonly [name: RegExp, status: number])[] = [
  [/quota|rate_limit/i, 429],
  [/authentication|api_key/i, 401],
  [/permission/i, 403],
  [/not_found/i, 404],
  [/invalid|bad_request|context_length/i, 400],
];

/** The status that an error event means: its code, or that of its names, or a failure of the server. */
function toStatus({ code, type }: JsonObject): number {
  const status = Number(code);
  if (Number.isInteger(status) && status >= 400 && status <= 599) return status;
  return STATUS_OF_NAME.find(([name]) => name.test(`${code} ${type}`))?.[1] ?? 500;
}

function causesOf(thrown: unknown): Error[] {
  const causes: Error[] = [];
  for (let cause = thrown; cause instanceof Error && causes.length < 8; cause = cause.cause) causes.push(cause);
  return causes;
}

function toRecord(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}
