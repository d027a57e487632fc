// The one failure of an MCP connection that a new connection cures. Apart from the protocol's own code, which is loaded
// at first use.
import { RpcError } from '../errors.ts';

/**
 * The server does not know the session, or the protocol version, of this connection any more. What it was asked has not
 * been done.
 */
export class SessionGone extends RpcError {
  constructor({ message, data }: RpcError) {
    super('upstream_error', { message, data, retryable: true });
  }
}
