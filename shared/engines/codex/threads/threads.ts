// Ensures that the Codex thread of a conversation contains all of its messages before the next prompt. The thread is
// the one of this app-server, the one that another machine has saved, or a new one; missing messages are injected. So a
// session keeps its context when it changes between engines.
import { deadline } from '../../../async.ts';
import { PROVIDER, WORKSPACE } from '../../../codex-host/codex-host.ts';
import { RpcError } from '../../../errors.ts';
import { isBlank } from '../../../messages/text.ts';
import type { EngineState, Message, TurnInput } from '../../engine.ts';
import { CodexRefusal } from '../protocol/client.ts';
import type { ClientRequests } from '../protocol/protocol.ts';
import { toAccount } from '../relay/account.ts';
import { createToken } from '../relay/running-turns.ts';
import type { AppServer } from './app-servers.ts';
import { toItem, toItems } from './history-items.ts';
import { type KnownThread, type LoadedThread, toModelId } from './known-thread.ts';
import { hashMessage, type PackedThread, packThread, unpackThread } from './rollout.ts';
import { hashTools, toDynamicTools } from './tools.ts';

export interface ThreadDeps {
  readonly state: EngineState;
  /** The key of the deployment; undefined: only credentials of callers are used. */
  readonly apiKey: string | undefined;
  /** Logs that a saved thread cannot be used; the turn continues without it. */
  warn(message: string, error: unknown): void;
}

const LOAD_TIMEOUT_MS = 5_000;
const SAVE_TIMEOUT_MS = 5_000;
const NO_LONGER = 'The instructions given for the previous turn no longer apply.';

/**
 * Returns a thread that contains all messages before the prompt of `turn`. `ahead`: the read of the saved thread, if it
 * was started earlier. `isNew`: creates a new thread, because the existing ones are too long for the model. Throws the
 * errors of the client.
 */
export async function openThread(
  deps: ThreadDeps,
  appServer: AppServer,
  turn: TurnInput,
  signal: AbortSignal,
  {
    ahead,
    isNew = false,
  }: { readonly ahead?: Promise<PackedThread | undefined> | undefined; readonly isNew?: boolean } = {},
): Promise<LoadedThread> {
  const history = turn.messages.slice(0, -1);
  const trimmed = turn.trimmed ?? 0;
  const all = trimmed + history.length;
  const tools = toDynamicTools(turn.tools);
  const toolsHash = hashTools(tools);
  const isKnown = (known: KnownThread): boolean => {
    // The tools of a thread are set when it starts and cannot be changed. One of another branch has dropped messages.
    if (known.tools !== toolsHash || known.branch !== turn.branch) return false;
    const message = history[known.seq - trimmed - 1];
    return message !== undefined && hashMessage(message) === known.hash;
  };
  const account = toAccount(turn, deps.apiKey);
  const local = appServer.threads.get(turn.conversationId);
  // A token must always refer to the same account.
  const isUsable = !isNew && local?.accountId === account.id && isKnown(local.known);
  const token = isUsable ? local.token : createToken();
  let known = isUsable ? local.known : undefined;
  let modelId = isUsable ? local.modelId : toModelId(turn.model);
  if (local !== undefined && (isNew || local.known.branch !== turn.branch))
    await appServer.client.request('thread/delete', { threadId: local.known.threadId }, signal).catch(ignoreRefusal);
  if (!isNew && known?.seq !== all && all > 0) {
    const saved = await (ahead ?? loadThread(deps, turn.conversationId, signal));
    if (saved !== undefined && isKnown(saved.known) && saved.known.seq > (known?.seq ?? 0)) {
      const resumed = await resume(deps, appServer, { turn, token, saved, local: local?.known }, signal);
      if (resumed !== undefined) {
        known = resumed;
        modelId = toModelId(turn.model);
      }
    }
  }
  known ??= await start(
    appServer,
    turn.branch,
    { ...settings(turn, token), historyMode: 'legacy', ...(tools.length > 0 && { dynamicTools: tools }) },
    signal,
  );
  const complete = await inject(appServer, turn, known, history.slice(Math.max(0, known.seq - trimmed)), signal);
  return { known: complete, accountId: account.id, token, modelId };
}

/** Saves the thread for other machines. If that fails, they start from the messages of the conversation. */
export async function saveThread(
  { state, warn }: ThreadDeps,
  appServer: AppServer,
  conversationId: string,
  loaded: LoadedThread,
): Promise<void> {
  const { known } = loaded;
  appServer.threads.set(conversationId, loaded);
  try {
    const packed = await packThread(appServer.session, known);
    if (packed === undefined) return;
    const isKept = await state.save(conversationId, packed, { signal: deadline(SAVE_TIMEOUT_MS) });
    if (!isKept) warn('a codex thread is too long to be saved for other machines', undefined);
  } catch (error) {
    warn('a codex thread could not be saved', error);
  }
}

/** Returns the thread that a machine has saved last; undefined if none can be read. Throws only the signal's reason. */
export async function loadThread(
  { state, warn }: ThreadDeps,
  conversationId: string,
  signal: AbortSignal,
): Promise<PackedThread | undefined> {
  try {
    const within = deadline(LOAD_TIMEOUT_MS, signal);
    const bytes = await state.load(conversationId, { signal: within });
    return bytes && (await unpackThread(bytes));
  } catch (error) {
    signal.throwIfAborted();
    warn('a saved codex thread could not be read', error);
    return undefined;
  }
}

interface Resumption {
  readonly turn: TurnInput;
  readonly token: string;
  readonly saved: PackedThread;
  readonly local: KnownThread | undefined;
}

async function resume(
  { warn }: ThreadDeps,
  { client, session }: AppServer,
  { turn, token, saved, local }: Resumption,
  signal: AbortSignal,
): Promise<KnownThread | undefined> {
  const { threadId } = saved.known;
  try {
    // The conversation has continued on another machine, so this app-server has an old state of the thread.
    if (local?.threadId === threadId) await client.request('thread/delete', { threadId }, signal);
    await session.writeRollout(saved.path, saved.rollout);
    const { thread } = await client.request(
      'thread/resume',
      { threadId, ...settings(turn, token), excludeTurns: true },
      signal,
    );
    return { ...saved.known, threadId: thread.id, file: thread.path ?? undefined };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof CodexRefusal) && !isFileError(error)) throw error;
    warn('codex refused a saved thread', error);
    return undefined;
  }
}

async function start(
  { client }: AppServer,
  branch: string | undefined,
  params: ClientRequests['thread/start'],
  signal: AbortSignal,
): Promise<KnownThread> {
  const { thread } = await client.request('thread/start', params, signal);
  const tools = hashTools(params.dynamicTools ?? []);
  const file = thread.path ?? undefined;
  return { threadId: thread.id, file, seq: 0, hash: '', branch, instructions: '', tools, models: [] };
}

function settings({ model }: TurnInput, token: string) {
  const config = { [`model_providers.${PROVIDER}.experimental_bearer_token`]: token };
  return { model: toModelId(model), cwd: WORKSPACE, modelProvider: PROVIDER, config };
}

/** Adds the messages of turns that the thread did not run, and the instructions of this turn. */
async function inject(
  { client }: AppServer,
  turn: TurnInput,
  known: KnownThread,
  missing: readonly Message[],
  signal: AbortSignal,
): Promise<KnownThread> {
  const items = toItems(withoutOwnCalls(missing, known));
  const given = turn.instructions ?? '';
  const instructions = isBlank(given) ? '' : hashMessage({ role: 'user', content: given });
  if (instructions !== known.instructions) items.push(toItem('developer', instructions === '' ? NO_LONGER : given));
  if (items.length > 0) await client.request('thread/inject_items', { threadId: known.threadId, items }, signal);
  return { ...known, instructions };
}

/**
 * If the first missing message is an answer, it is the part of an answer that the thread itself has begun: the thread
 * has its commands and tool calls.
 */
function withoutOwnCalls(missing: readonly Message[], { seq }: KnownThread): readonly Message[] {
  const [first, ...others] = missing;
  if (seq === 0 || first?.role !== 'assistant') return missing;
  return [{ role: first.role, content: first.content }, ...others];
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof CodexRefusal)) throw error;
}

/** The file exists already, or cannot be written. */
function isFileError(error: unknown): boolean {
  return (error instanceof RpcError && error.reason === 'conflict') || (error instanceof Error && 'syscall' in error);
}
