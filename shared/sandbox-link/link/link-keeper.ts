// The one link of a gateway process to the sandbox: opened by the first call that needs it, and again after it was over.
import type { ConnectLinkOptions, GatewayLink } from './connect-link.ts';

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
  _options: Omit<ConnectLinkOptions, 'signal'>,
  _onOpen?: (link: GatewayLink) => void,
): LinkKeeper {
  throw new Error('not implemented');
}
