// The one link of a gateway process to the sandbox: opened by the first call that needs it, and again after it was
// over.
import { orAbort } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import { type ConnectLinkOptions, connectLink, type GatewayLink } from './connect-link.ts';

export interface LinkKeeper {
  /** The link that is there, if it is not over. */
  readonly link: GatewayLink | undefined;
  /**
   * The link, opened when there is none; calls at the same time share the attempt. Rejects as `connectLink`. A link
   * that waits to be resumed is returned at once.
   */
  open(signal?: AbortSignal): Promise<GatewayLink>;
  /** Ends the link; `open` rejects from then on. */
  close(reason?: string): Promise<void>;
}

/** `onOpen` gets each link before the calls that wait for it. */
export function createLinkKeeper(
  options: Omit<ConnectLinkOptions, 'signal'>,
  onOpen?: (link: GatewayLink) => void,
): LinkKeeper {
  const closed = new AbortController();
  let link: GatewayLink | undefined;
  let opening: Promise<GatewayLink> | undefined;

  async function connect(): Promise<GatewayLink> {
    try {
      link = await connectLink({ ...options, signal: closed.signal });
      onOpen?.(link);
      return link;
    } finally {
      opening = undefined;
    }
  }

  const current = (): GatewayLink | undefined => (link?.over.aborted === false ? link : undefined);
  return {
    get link() {
      return current();
    },
    async open(signal) {
      signal?.throwIfAborted();
      closed.signal.throwIfAborted();
      const open = current();
      if (open !== undefined) return open;
      opening ??= connect();
      return orAbort(opening, signal);
    },
    async close(reason) {
      closed.abort(new RpcError('unavailable', { message: 'The gateway is shutting down' }));
      await opening?.catch(() => {});
      await link?.close(reason);
    },
  };
}
