// The Engine port: one turn of a conversation in, events with Codex's names out. Engines do not depend on sessions,
// stores or limits.

import type { OutputSchema } from '../json/output-schema.ts';
import type { MessagePart } from '../messages/message-parts.ts';
import type { SettingWarning, TurnSettings } from '../messages/turn-settings.ts';
import type { CutReason, EngineEvent, OmittedTool, Usage } from '../turn-events.ts';

export interface Message {
  readonly role: 'user' | 'assistant';
  /** The text. */
  readonly content: string;
  /** The whole message, its text included, if it is more than text. */
  readonly parts?: readonly MessagePart[] | undefined;
  /** The model that wrote it, `provider/model`, where known. */
  readonly model?: string | undefined;
}

/**
 * Credentials of a caller's own account, for one turn. Never logged, stored, put into an event or into a process's
 * environment.
 */
export interface Credential {
  readonly provider: 'chatgpt' | 'openai' | 'anthropic' | 'google';
  /** A function, so that loggers and serialisers do not output the token. */
  token(): string;
}

/** One tool as it is sent to a model. */
export interface EngineTool {
  /** Unique among the tools of a turn, `^[\w-]{1,64}$`. */
  readonly name: string;
  /** Name of its MCP server, for the events. */
  readonly server: string;
  readonly tool: string;
  readonly description?: string;
  /** A JSON Schema. */
  readonly inputSchema: Readonly<Record<string, unknown>>;
  /** Replaces the argument names that the model was given by the tool's original names. */
  toArguments?(given: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
}

export interface Toolset {
  readonly tools: readonly EngineTool[];
  /** Characters of their names, descriptions and schemas together: they count against the model's context. */
  readonly chars: number;
  readonly omitted?: readonly OmittedTool[];
  /** Servers that were started again since the last turn. */
  readonly restarted?: readonly string[];
  /** Of bounded length. Rejects only when `signal` is aborted; every other failure is an answer to the model. */
  call(
    tool: EngineTool,
    args: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<{ readonly content: string; readonly isError: boolean }>;
}

/** The input of one turn. */
export interface TurnInput {
  readonly turnId: string;
  /** Stable id of the conversation, for engines that keep state of their own (codex). */
  readonly conversationId: string;
  /** `provider/model`, resolved. */
  readonly model: string;
  /** System instructions of the caller, if any. */
  readonly instructions?: string;
  /** Oldest first; the last one is the prompt. */
  readonly messages: readonly Message[];
  /** Used instead of the deployment's credentials; its provider offers the model. */
  readonly credential?: Credential;
  /**
   * Older messages of the conversation that are not in `messages`: `messages[0]` is number `trimmed` + 1. Default 0.
   */
  readonly trimmed?: number;
  /**
   * Changes whenever messages of the conversation are dropped: what an engine keeps of the conversation under another
   * branch contains messages that must not be sent again.
   */
  readonly branch?: string;
  /** The tools that the model may call, for engines with tool support. */
  readonly tools?: Toolset;
  /** A setting that the model does not support is left out, with a warning. */
  readonly settings?: TurnSettings;
  /** The answer is JSON of this schema; the caller of the engine validates it. */
  readonly outputSchema?: OutputSchema;
  /** The longest total wait for a provider's Retry-After. Default: 30 s per call. */
  readonly retryWaitMsMax?: number;
  /** Key id of the caller, for engines that run processes: workspace and processes belong to the key. */
  readonly keyId?: string;
}

/** The outcome of a completed turn. `content` is the whole answer, equal to the concatenated deltas. */
export interface Outcome {
  readonly content: string;
  readonly usage: Usage;
  /** The model that answered, as the provider names it, in `provider/model` form. */
  readonly model: string;
  /**
   * Why the model stopped, where known: `length` is an answer cut at the output limit, `content_filter` one
   * cut by policy.
   */
  readonly finishReason?: 'stop' | CutReason;
  /** Settings that were left out or changed. */
  readonly warnings?: readonly SettingWarning[];
}

/**
 * Errors thrown by `run`: RpcError `upstream_error` (the provider refused, failed, cut the stream or could not be
 * reached: data.provider, data.status?), `upstream_timeout`, `invalid_params` (no such model); the signal's reason when
 * aborted. A stream that ends without the provider's own end marker is `upstream_error`, never a success.
 */
export interface Engine {
  /** Begins what a turn of the model will need, while the turn is being admitted. Never throws. */
  prepare?(model: string): void;
  run(turn: TurnInput, options: RunOptions): AsyncGenerator<EngineEvent, Outcome, void>;
}

export interface RunOptions {
  readonly signal: AbortSignal;
  /**
   * Receives each part of the answer once it is complete, in order, for the history. Text may be left out: the deltas
   * contain it. The texts of the parts begin the concatenated deltas.
   */
  readonly record?: ((part: MessagePart) => void) | undefined;
}

/**
 * Stores the state that an engine needs on another machine, per conversation. Deleting the conversation erases it.
 */
export interface EngineState {
  load(conversationId: string, options: { readonly signal: AbortSignal }): Promise<Uint8Array | undefined>;
  /** Replaces the stored state. False when the state is too large: then none is stored. */
  save(conversationId: string, bytes: Uint8Array, options: { readonly signal: AbortSignal }): Promise<boolean>;
}

/** Chooses an engine by model name. */
export interface Engines {
  /** Model of a prompt without `model`, e.g. `anthropic/claude-sonnet-4-5` or `offline/echo`. */
  readonly defaultModel: string;
  /**
   * Throws RpcError `invalid_params` when the provider is unknown or has no credentials, saying which variable to set,
   * or when `credential` is another provider's. Without a model, a credential gets its provider's default one.
   */
  resolve(model: string | undefined, credential?: Credential): { readonly engine: Engine; readonly model: string };
  /** The models that are known and can be called, without or with a login of this provider. Makes no call. */
  usable(login?: Credential['provider']): { readonly models: readonly string[]; readonly defaultModel: string };
  /** Starts loading what the default model needs, so that the first prompt does not pay for it. Never throws. */
  warm?(): void;
  /** Ends the processes that engines have started. */
  close?(): Promise<void>;
}
