// A ride: the first commit of one transaction (the rider) joins the commit of another one (the carrier), so that both
// take one round trip. The carrier decides: nothing of the rider is stored unless the carrier's commit is stored. The
// limiter carries the first commit of the call that it counts.
import { Conflict, type Ref, type Snapshot, type Store, type Version, type Write } from './store.ts';

/** Shows whether the writes of a rider are stored, where the response to their commit is lost. */
export interface Proof {
  readonly ref: Ref;
  isStored(snapshot: Snapshot | undefined): boolean;
}

export interface Offer {
  /** Each has its precondition. */
  readonly writes: readonly Write[];
  readonly proof?: Proof | undefined;
}

/**
 * The versions of the writes. `left`: they were not sent. `lost`: they were sent and are not stored, or their outcome
 * is known to the carrier only: a read shows it.
 */
export type RideOutcome = readonly (Version | null)[] | 'left' | 'lost';

export interface Ride {
  /** The rider prepares its writes; the carrier waits for no others. */
  expect(): void;
  readonly isExpected: boolean;
  /** Resolves when the carrier has stored or left the writes; at once when the ride has ended. */
  offer(offer: Offer): Promise<RideOutcome>;
  /** What the carrier may take; undefined before the offer and after the end. */
  readonly offered: Offer | undefined;
  /** Resolves at the offer or at the end. */
  readonly ready: Promise<void>;
  /** Ends the ride; no effect after the first time. */
  end(outcome: RideOutcome): void;
}

export function createRide(): Ride {
  const ready = Promise.withResolvers<void>();
  const outcome = Promise.withResolvers<RideOutcome>();
  let isOver = false;
  const ride: Ride & { isExpected: boolean; offered: Offer | undefined } = {
    isExpected: false,
    offered: undefined,
    ready: ready.promise,
    expect() {
      ride.isExpected = !isOver;
    },
    async offer(given) {
      if (isOver || ride.offered !== undefined) return 'left';
      ride.offered = given;
      ready.resolve();
      return outcome.promise;
    },
    end(given) {
      if (isOver) return;
      isOver = true;
      ride.isExpected = false;
      ride.offered = undefined;
      outcome.resolve(given);
      ready.resolve();
    },
  };
  return ride;
}

/** A call that is being counted: its first commit may join that of the limiter. */
export interface Counting {
  readonly ride: Ride;
  /** Resolves when the limiter has admitted the call, rejects when it refuses it. */
  readonly admitted: Promise<unknown>;
}

/**
 * The store for the transaction of a call that is being counted. It reads at once. A commit joins that of the limiter,
 * or waits until the call is admitted, so that nothing of a refused call is stored.
 */
export function ridingStore(store: Store, { ride, admitted }: Counting, proof?: Proof): Store {
  return {
    ...store,
    async commit(writes, options) {
      const outcome = await ride.offer({ writes, proof });
      // The documents are read while the limiter commits without the rider.
      if (outcome === 'lost') throw new Conflict();
      await admitted;
      return outcome === 'left' ? store.commit(writes, options) : [...outcome];
    },
    async lock(refs, compute, options) {
      await admitted;
      return store.lock(refs, compute, options);
    },
  };
}
