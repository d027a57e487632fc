// Which params of which methods name something that a key owns, and what an answer is once the names in it are taken
// out.
import * as methods from '../../shared/methods/index.ts';
import type { Received } from './transports.ts';

/** A handle of each kind. */
export interface Handles {
  readonly session: string;
  readonly turn: string;
  readonly login: string;
  readonly subscription: string;
  readonly mcp: string;
  readonly terminal: string;
}

/** Params that hold a handle, and the kinds of handle that are tried in them. */
const HANDLES: Readonly<Record<string, readonly (keyof Handles)[]>> = {
  session_id: ['session', 'login', 'terminal'],
  stream_id: ['session'],
  turn_id: ['turn'],
  auth_session_id: ['login', 'session'],
  subscription_id: ['subscription'],
  name: ['mcp'],
  server_config: ['mcp'],
};
/** Looks like one, but names a request and not a thing: another key's is another request. */
const NO_HANDLES: ReadonlySet<string> = new Set(['idempotency_key']);

/** A method that takes handles. */
export interface Taking {
  readonly name: string;
  readonly params: readonly { readonly name: string; readonly isOptional: boolean }[];
  readonly example: object;
}

export const TAKING: readonly Taking[] = Object.values(methods)
  .map(({ name, params, example }) => ({
    name,
    params: Object.entries(params.shape)
      .filter(([param]) => Object.hasOwn(HANDLES, param))
      .map(([param, schema]) => ({ name: param, isOptional: schema.safeParse(undefined).success })),
    example: example.params,
  }))
  .filter(({ params }) => params.length > 0);

/** `method param` of everything that looks like a handle and is in no table here. */
export function unknownHandles(): readonly string[] {
  return Object.values(methods).flatMap(({ name, params }) =>
    Object.keys(params.shape)
      .filter((param) => /(^|_)(ids?|names?|key|handle|session|ticket|server_config)$/.test(param))
      .filter((param) => !Object.hasOwn(HANDLES, param) && !NO_HANDLES.has(param))
      .map((param) => `${name} ${param}`),
  );
}

/**
 * Params of a call with these handles; the bits of `pick` choose among the kinds, and whether an optional handle beside
 * others is left out.
 */
export function paramsWith({ params, example }: Taking, handles: Handles, pick: number): object {
  const chosen = params.map(({ name, isOptional }, index) => {
    const bits = pick >> (index * 3);
    if (isOptional && params.length > 1 && (bits & 3) === 0) return [name, undefined] as const;
    const kinds = HANDLES[name] ?? [];
    const value = handles[kinds[(bits & 7) % kinds.length] ?? 'session'];
    return [name, name === 'server_config' ? { name: value } : value] as const;
  });
  return { ...example, ...Object.fromEntries(chosen) };
}

/** The whole answer but for what differs between any two calls: ids, tickets, times, and the handles themselves. */
export function normalise(received: Received, handles: Handles): string {
  let text = JSON.stringify([received.status, received.type, received.answers, received.left === true]);
  for (const [kind, handle] of Object.entries(handles)) text = text.replaceAll(handle, `<${kind}>`);
  return text
    .replaceAll(/\b([a-z]+)_[0-9a-f]{32}\b/g, '$1_<id>')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>')
    .replaceAll(/"duration_ms":\d+/g, '"duration_ms":0')
    .replaceAll(/[\w-]{43}/g, '<ticket>')
    .replaceAll(/"seq":\d+/g, '"seq":0');
}
