// The only failure of an MCP connection that a new connection can solve. It has its own file, because the protocol's
// code is loaded only at first use.
import { RpcError } from '../errors.ts';

/**
 * The server no longer accepts the session, or the protocol version, of this connection. The request was not executed.
 */
export class SessionGone extends RpcError {
  constructor({ message, data }: RpcError) {
    super('upstream_error', { message, data, retryable: true });
  }
}
