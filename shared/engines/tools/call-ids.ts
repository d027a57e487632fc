// The ids of tool calls in one request.
const ID_CHARS_MAX = 64;

/** The id of the next call in the request, from the id in the history. */
export type ToCallId = (callId: string) => string;

/**
 * Ids in the form that all providers accept, and unique, because another provider, or a server that counts from 0 in
 * each turn, may have made those of the history.
 */
export function createCallIds(): ToCallId {
  const taken = new Set<string>();
  return (callId) => {
    const clean = callId.replaceAll(/[^\w-]/g, '_').slice(0, ID_CHARS_MAX) || 'call';
    let id = clean;
    for (let number = 2; taken.has(id); number++) id = `${clean.slice(0, ID_CHARS_MAX - 6)}_${number}`;
    taken.add(id);
    return id;
  };
}
