// The one failure of an MCP connection that a new connection resolves. Kept apart from the protocol's code, which is
// loaded at first use.
import { RpcError } from '../errors.ts';

/**
 * The server no longer accepts the session, or the protocol version, of this connection. The request was not executed.
 */
export class SessionGone extends RpcError {
  constructor({ message, data }: RpcError) {
    super('upstream_error', { message, data, retryable: true });
  }
}
