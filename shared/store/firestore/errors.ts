// Converts gRPC statuses of Firestore to errors of the port: a failed precondition, an outage, or a defect of the
// gateway. A commit with an unknown outcome is an outage, never a success or a Conflict.
import { RpcError } from '../../errors.ts';
import { GRPC, statusOf } from '../../grpc/grpc-status.ts';
import { Conflict } from '../store.ts';

/** Nothing was written because of a concurrent write; the request itself is valid. */
const LOST: ReadonlySet<number> = new Set([GRPC.failedPrecondition, GRPC.alreadyExists, GRPC.notFound, GRPC.aborted]);
/** Every retry would fail: a defect of the gateway, or a missing index. */
const OURS: ReadonlySet<number> = new Set([
  GRPC.invalidArgument,
  GRPC.failedPrecondition,
  GRPC.outOfRange,
  GRPC.unimplemented,
]);
/** In the message of a query whose index Firestore is still building, minutes after its creation. */
const INDEX_IN_BUILD = /\bindex is (?:currently building|not ready)/;

/** The error of a commit; `conditional`: the commit had a precondition or a transaction. */
export function toCommitError(error: unknown, conditional: boolean): unknown {
  const status = statusOf(error);
  if (status !== undefined && conditional && LOST.has(status)) return new Conflict(undefined, { cause: error });
  return toReadError(error);
}

/** The error of a read or of the begin of a transaction. A query works once its index is built. */
export function toReadError(error: unknown): unknown {
  const status = statusOf(error);
  const isDefect = status === undefined || (OURS.has(status) && !INDEX_IN_BUILD.test(String(error)));
  return isDefect ? error : new RpcError('unavailable', { cause: error });
}

/** Whether Firestore has aborted a transaction because of another one. */
export function isAborted(error: unknown): boolean {
  return statusOf(error) === GRPC.aborted;
}
