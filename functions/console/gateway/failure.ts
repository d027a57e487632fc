// Converts errors of the gateway, of its client and of the page itself to the failures that the page shows.
import { GatewayError, networkError } from '../../../shared/client/gateway-error.ts';

/** Any error as a GatewayError: an abort, a failed import, a defect. */
export function toFailure(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  if (error instanceof Error && error.name === 'AbortError') return stopped();
  if (error instanceof TypeError) return networkError('The gateway cannot be reached', error);
  return unexpected(error);
}

/** The user stopped waiting. */
export function stopped(): GatewayError {
  return new GatewayError({ reason: 'stopped', message: 'Stopped' });
}

export function unexpected(cause?: unknown): GatewayError {
  return new GatewayError({
    reason: 'bad_response',
    message: 'The response has a form that this console cannot read',
    cause,
  });
}
