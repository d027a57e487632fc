// Moves new work to the newest boot of the sandbox service. A deploy runs two instances for a while, of which the
// platform sends new connections to the newer one, while the links that are open stay with the older one. Every gateway
// process records the boot that it has reached; one whose link reaches an older boot connects again until it reaches a
// newer one, and its old link stays open for what still runs there (link-keeper.ts).
import { pause } from '../../async.ts';
import type { WallClock } from '../../clock.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { GatewayLink } from '../link/connect/connect-link.ts';
import { commonVersion } from '../link/connect/hello.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import type { ReachedSandbox } from '../link/link.ts';

/** Where gateway processes record the newest boot of the sandbox service that any of them has reached. */
export interface BootRecords {
  /** Records a boot unless a newer one is recorded. Resolves with the newest. */
  reached(boot: ReachedSandbox): Promise<ReachedSandbox>;
  /** Calls `listener` with the recorded boot, now and after every change, until the returned function is called. */
  watch(listener: (newest: ReachedSandbox) => void): () => void;
}

/** `checkMs`: how often the boot that is reached is recorded again. The delay between attempts to move doubles. */
export const BOOT_TIMES = { checkMs: 60_000, retryMs: 1_000, retryMaxMs: 30_000 };

/** A start further ahead than this comes from a wrong clock. */
const AHEAD_MS_MAX = 5 * 60_000;

/** Whether `boot` was started after `other`. A start time that is too far ahead counts as 0. */
export function isNewer(boot: ReachedSandbox, other: ReachedSandbox, nowMs: number): boolean {
  const startMsOf = ({ startedAtMs }: ReachedSandbox): number => (startedAtMs > nowMs + AHEAD_MS_MAX ? 0 : startedAtMs);
  return startMsOf(boot) > startMsOf(other);
}

export interface BootFollower {
  /** Call with each link that is opened. */
  opened(link: GatewayLink): void;
  /** Call when a link could not move to a new WebSocket, because another instance of the service answered. */
  elsewhere(): void;
  close(): void;
}

export interface BootFollowerDeps {
  /** Called later: its links are reported here. */
  readonly keeper: () => LinkKeeper;
  readonly records: BootRecords;
  readonly clock: WallClock;
  readonly log: Logger;
}

export function createBootFollower({ keeper, records, clock, log }: BootFollowerDeps): BootFollower {
  const closed = new AbortController();
  let newest: ReachedSandbox | undefined;
  let isMoving = false;
  let timer: NodeJS.Timeout | undefined;
  let unwatch: (() => void) | undefined;

  /** Records the boot of the link, which renews the record, and moves when another one is newer. */
  async function check(): Promise<void> {
    const { link } = keeper();
    if (link === undefined) return;
    try {
      setNewest(await records.reached(link.sandbox));
    } catch (error) {
      log.warn('the boot of the sandbox service could not be recorded', errorFields(error));
    }
  }

  function setNewest(boot: ReachedSandbox): void {
    newest = boot;
    if (!closed.signal.aborted && isOlder(keeper().link)) void move();
  }

  /** Whether there is a newer boot that supports a protocol version of this process. */
  function isOlder(link: GatewayLink | undefined): link is GatewayLink {
    if (link === undefined || newest === undefined || commonVersion(newest.protocol) === undefined) return false;
    return isNewer(newest, link.sandbox, clock.now());
  }

  async function move(): Promise<void> {
    if (isMoving) return;
    isMoving = true;
    for (let delayMs = BOOT_TIMES.retryMs; !closed.signal.aborted; delayMs = longer(delayMs)) {
      await replace();
      if (!isOlder(keeper().link)) break;
      await pause(delayMs * (0.8 + 0.2 * Math.random()), closed.signal).catch(() => {});
    }
    isMoving = false;
  }

  async function replace(): Promise<void> {
    const { link } = keeper();
    if (link === undefined) return;
    try {
      await keeper().replace((reached) => isNewer(reached, link.sandbox, clock.now()));
      if (keeper().draining.includes(link)) {
        log.notice('new work moves to a newer boot of the sandbox service', { link: link.id });
      }
    } catch {
      // connectLink has logged it.
    }
  }

  return {
    opened() {
      if (closed.signal.aborted) return;
      void check();
      timer ??= setInterval(() => void check(), BOOT_TIMES.checkMs).unref();
      unwatch ??= records.watch(setNewest);
    },
    elsewhere: () => void replace(),
    close() {
      closed.abort();
      clearInterval(timer);
      unwatch?.();
    },
  };
}

function longer(delayMs: number): number {
  return Math.min(2 * delayMs, BOOT_TIMES.retryMaxMs);
}
