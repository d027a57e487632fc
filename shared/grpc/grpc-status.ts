// The gRPC statuses that the gateway distinguishes (https://grpc.io/docs/guides/status-codes/), and the status of an
// error. Not from the SDKs, which are imported at the first call.
import { RpcError } from '../errors.ts';

export const GRPC = {
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** The gRPC status of an error of an SDK; undefined for an error that is no status. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof RpcError || !(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'number' ? error.code : undefined;
}
