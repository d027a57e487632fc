// Begins the reads of a prompt while the limiter counts its call: the token budget, the session, the owner's total of
// stored bytes, older messages. Nothing is read that this instance has in memory. The admitting commit checks what they
// find, so a wrong or missing result costs a further read only.
import { type RpcError, toRpcError } from '../../errors.ts';
import { conversationRef } from '../records/documents.ts';
import { storageRef } from '../records/storage.ts';
import type { AdmissionDeps } from './prompt-request.ts';

export interface PreparedPrompt {
  /** Resolves when the session and the total are in memory, or could not be read. */
  readonly session: Promise<void>;
  /** Resolves when the newest of the older messages are in memory too, or could not be read. */
  readonly messages: Promise<void>;
  /** Why no new turn may start. */
  readonly refusal: Promise<RpcError | undefined>;
}

/** `sessionId` undefined: a new session. */
export function preparePrompt(
  deps: Pick<AdmissionDeps, 'store' | 'cache' | 'history' | 'ledger'>,
  { owner, sessionId }: { readonly owner: string; readonly sessionId: string | undefined },
): PreparedPrompt {
  const session = readSession(deps, owner, sessionId);
  return {
    session: session.then(() => {}),
    messages: session.then((conversation) => conversation && deps.history.prefetch(conversation)).catch(() => {}),
    refusal: deps.ledger.admit(owner).then(() => undefined, toRpcError),
  };
}

/** The conversation, if it was read now. */
async function readSession(
  { store, cache, ledger }: Pick<AdmissionDeps, 'store' | 'cache' | 'ledger'>,
  owner: string,
  sessionId: string | undefined,
) {
  const ref = sessionId === undefined ? undefined : conversationRef(owner, sessionId);
  const sessionRefs = ref === undefined || cache.isProbablyCurrent(ref) ? [] : [ref];
  const totalRefs = ledger.stored(owner) === undefined ? [storageRef(owner)] : [];
  if (sessionRefs.length + totalRefs.length === 0) return undefined;
  try {
    const snapshots = await store.get([...sessionRefs, ...totalRefs]);
    if (totalRefs.length > 0) ledger.cacheTotal(owner, snapshots.at(-1));
    const [session] = sessionRefs;
    if (session === undefined) return undefined;
    cache.found(session, snapshots[0]);
    return cache.read(snapshots[0]);
  } catch {
    // The admission reads again, and its error is the one that the caller gets.
    return undefined;
  }
}
