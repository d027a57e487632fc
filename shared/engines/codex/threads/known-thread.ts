// What the gateway remembers about a thread of Codex: which part of its conversation the thread contains.

/** The state of the thread of a conversation after its last turn. */
export interface KnownThread {
  readonly threadId: string;
  /** Path of its file, as Codex reports it; undefined: Codex stores none. */
  readonly file: string | undefined;
  /** The last message of the conversation that is in the thread: its number and its hash. */
  readonly seq: number;
  readonly hash: string;
  /** The branch of the conversation to which the messages of the thread belong; undefined: no message was dropped. */
  readonly branch?: string | undefined;
  /** Hash of the instructions that apply in the thread; empty: none. */
  readonly instructions: string;
  /** Hash of the tools with which the thread was started; empty: none. */
  readonly tools: string;
  /** Models of its turns without the provider, newest first; at most MODELS_MAX. */
  readonly models: readonly string[];
  /** A turn has set the effort of the thread. */
  readonly hasEffort?: boolean | undefined;
}

/** A thread that an app-server has loaded, with the account of its calls to the provider. */
export interface LoadedThread {
  readonly known: KnownThread;
  readonly accountId: string;
  /** The token that Codex has instead of the account's credential. */
  readonly token: string;
  /** The model of turns without a model; undefined: unknown. */
  readonly modelId: string | undefined;
}

const MODELS_MAX = 4;

/** Returns the models of the thread after one more turn with `model`. */
export function addModel(models: readonly string[], modelId: string): readonly string[] {
  return [...new Set([modelId, ...models])].slice(0, MODELS_MAX);
}

/** `codex/gpt-5.5` -> `gpt-5.5`. */
export function toModelId(model: string): string {
  return model.slice(model.indexOf('/') + 1);
}
