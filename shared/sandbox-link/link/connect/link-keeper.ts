// The link of a gateway process to the sandbox: opened by the first call that needs it, and again after it was over.
// One that reaches a newer boot of the service can take its place: the older one stays until nothing uses it.
import { orAbort } from '../../../async.ts';
import { RpcError } from '../../../errors.ts';
import type { ReachedSandbox } from '../link.ts';
import { type ConnectLinkOptions, connectLink, type GatewayLink } from './connect-link.ts';

export interface LinkKeeper {
  /** The link for new work, if there is one that is not over. */
  readonly link: GatewayLink | undefined;
  /** Links that were replaced, and over which something may still run. */
  readonly draining: readonly GatewayLink[];
  /**
   * Returns the link; opens one if there is none. Concurrent calls share the attempt. Rejects with the errors of
   * `connectLink`. A link that waits to be resumed is returned immediately.
   */
  open(signal?: AbortSignal): Promise<GatewayLink>;
  /**
   * Opens one more link, which takes the place of the present one if `accept` returns true, and is closed if not.
   * Rejects as `connectLink`.
   */
  replace(accept: (sandbox: ReachedSandbox) => boolean): Promise<void>;
  /** Ends the links; `open` rejects from then on. */
  close(reason?: string): Promise<void>;
}

export interface LinkKeeperOptions extends Omit<ConnectLinkOptions, 'signal'> {
  /** Gets each link before the calls that wait for it. */
  readonly onOpen?: (link: GatewayLink) => void;
  /**
   * A replaced link that was not used for so long is closed. Longer than a terminal stays without a reader, so that its
   * caller finds it. Default: DRAIN_TIMES.idleMs.
   */
  readonly drainIdleMs?: number;
}

export const DRAIN_TIMES = { idleMs: 65_000, checkMs: 1_000 };

export function createLinkKeeper({ onOpen, drainIdleMs, ...options }: LinkKeeperOptions): LinkKeeper {
  const closed = new AbortController();
  const draining = new Set<GatewayLink>();
  let link: GatewayLink | undefined;
  let opening: Promise<GatewayLink> | undefined;
  let timer: NodeJS.Timeout | undefined;

  const connect = (): Promise<GatewayLink> => connectLink({ ...options, signal: closed.signal });

  async function openFirst(): Promise<GatewayLink> {
    try {
      link = await connect();
      onOpen?.(link);
      return link;
    } finally {
      opening = undefined;
    }
  }

  const current = (): GatewayLink | undefined => (link?.over.aborted === false ? link : undefined);

  function drain(older: GatewayLink): void {
    draining.add(older);
    older.over.addEventListener('abort', () => draining.delete(older), { once: true });
    timer ??= setInterval(closeUnused, DRAIN_TIMES.checkMs).unref();
  }

  function closeUnused(): void {
    for (const older of draining) {
      if (older.idleMs >= (drainIdleMs ?? DRAIN_TIMES.idleMs)) void older.close('replaced by a link to a newer boot');
    }
    if (draining.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return {
    get link() {
      return current();
    },
    get draining() {
      return [...draining];
    },
    async open(signal) {
      signal?.throwIfAborted();
      closed.signal.throwIfAborted();
      const open = current();
      if (open !== undefined) return open;
      opening ??= openFirst();
      return orAbort(opening, signal);
    },
    async replace(accept) {
      const older = current();
      const made = await connect();
      if (older === undefined || older !== current() || !accept(made.sandbox)) return made.close('not needed');
      link = made;
      drain(older);
      onOpen?.(made);
    },
    async close(reason) {
      closed.abort(new RpcError('unavailable', { message: 'The gateway is shutting down' }));
      clearInterval(timer);
      await opening?.catch(() => {});
      await Promise.all([link, ...draining].map((each) => each?.close(reason)));
    },
  };
}
