// The owner that a method works on: the caller, or for scope `admin` any other.
import { z } from 'zod';
import { missingScope } from '../../auth/admission.ts';
import type { Caller } from '../../auth/keys/keys.ts';

export const OwnerId = z.string().min(1).max(512);

/** The id of the owner. Throws RpcError `forbidden` for another owner than the caller, without scope `admin`. */
export function checkOwner(caller: Caller, owner: string | undefined): string {
  if (owner === undefined || owner === caller.keyId) return caller.keyId;
  const refusal = missingScope(caller, 'admin');
  if (refusal !== undefined) throw refusal;
  return owner;
}
