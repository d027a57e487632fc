// What the gateway keeps of a thread of Codex: how much of its conversation the thread holds.

/** What the thread of a conversation holds, as of its last turn. */
export interface KnownThread {
  readonly threadId: string;
  /** Its file, as Codex names it; undefined: Codex keeps none. */
  readonly file: string | undefined;
  /** The last message of the conversation that is in the thread: its number, and a hash of it. */
  readonly seq: number;
  readonly hash: string;
  /** Hash of the instructions that hold in the thread; empty: none. */
  readonly instructions: string;
  /** Hash of the tools that the thread was started with; empty: none. */
  readonly tools: string;
  /** The models of its turns, without provider, newest first; at most MODELS_MAX. */
  readonly models: readonly string[];
}

/** A thread that an app-server has loaded, with the account of its calls to the provider. */
export interface LoadedThread {
  readonly known: KnownThread;
  readonly accountId: string;
  /** What Codex has in the place of the account's credential. */
  readonly token: string;
  /** The model of turns that name none; undefined: unknown. */
  readonly modelId: string | undefined;
}

const MODELS_MAX = 4;

/** The models of the thread when one more turn names a model. */
export function addModel(models: readonly string[], modelId: string): readonly string[] {
  return [...new Set([modelId, ...models])].slice(0, MODELS_MAX);
}

/** `codex/gpt-5.5` -> `gpt-5.5`. */
export function toModelId(model: string): string {
  return model.slice(model.indexOf('/') + 1);
}
