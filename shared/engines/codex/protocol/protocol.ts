// The part of the protocol of `codex app-server` 0.169.0 that the gateway uses: only these methods are sent, and only
// these members are read. A test generates the types of the installed version and compares.
import { z } from 'zod';

/**
 * Every request the gateway makes; nothing else can be sent. Whatever runs outside Codex's sandbox
 * (`thread/shellCommand`, `fs/*`, ...) is absent.
 */
export interface ClientRequests {
  'thread/start': {
    readonly model: string;
    readonly modelProvider: string;
    readonly cwd: string;
    readonly config: { [key: string]: string | { [name: string]: string } };
    /**
     * `legacy`: the file of the thread is its history. With `paginated`, Codex also writes a history to a database in
     * every turn, which the gateway does not read.
     */
    readonly historyMode: 'legacy';
    /** Stored with the thread: a resumed thread has them. */
    readonly dynamicTools?: DynamicTool[];
  };
  'thread/resume': {
    readonly threadId: string;
    readonly model: string;
    readonly modelProvider: string;
    readonly cwd: string;
    readonly config: { [key: string]: string | { [name: string]: string } };
    readonly excludeTurns: boolean;
  };
  'thread/delete': { readonly threadId: string };
  'thread/inject_items': { readonly threadId: string; readonly items: ResponseItem[] };
  'turn/start': {
    readonly threadId: string;
    readonly input: TurnInputPart[];
    /** For this turn and those after it. */
    readonly model?: string;
    /** Of the last message of this turn. */
    readonly outputSchema?: z.output<typeof JsonObject>;
    /** For this turn and those after it. */
    readonly effort?: string;
  };
  /** Send it only while no command is being started: see requested-commands.ts. */
  'turn/interrupt': { readonly threadId: string; readonly turnId: string };
  'model/list': { readonly includeHidden: boolean };
  /** Ends the running commands of the thread. */
  'thread/backgroundTerminals/clean': { readonly threadId: string };
}

export type TurnInputPart =
  | { readonly type: 'text'; readonly text: string; readonly text_elements: never[] }
  | { readonly type: 'image'; readonly url: string };

export type ClientMethod = keyof ClientRequests;

/** A tool that the gateway runs on the server's request (`item/tool/call`). */
export interface DynamicTool {
  readonly type: 'function';
  readonly name: string;
  readonly description: string;
  readonly inputSchema: z.output<typeof JsonObject>;
}
export const JsonObject = z.record(z.string(), z.json());

/** A message of the history, as the Responses API has it. */
export interface ResponseMessage {
  [member: string]: string | { [member: string]: string }[];
  readonly type: 'message';
  readonly role: 'user' | 'assistant' | 'developer';
  readonly content: (
    | { readonly type: 'input_text' | 'output_text'; readonly text: string }
    | { readonly type: 'input_image'; readonly image_url: string }
  )[];
}

/** A tool call of the history, and its result. */
export type ResponseToolItem =
  | {
      [member: string]: string;
      readonly type: 'function_call';
      readonly call_id: string;
      readonly name: string;
      readonly arguments: string;
    }
  | {
      [member: string]: string;
      readonly type: 'function_call_output';
      readonly call_id: string;
      readonly output: string;
    };
export type ResponseItem = ResponseMessage | ResponseToolItem;

const Nothing = z.object({});
const ThreadResult = z.object({ thread: z.object({ id: z.string(), path: z.string().nullable() }) });

/** The members of each answer that are read. */
export const RESULTS = {
  'thread/start': ThreadResult,
  'thread/resume': ThreadResult,
  'thread/delete': Nothing,
  'thread/inject_items': Nothing,
  'turn/start': z.object({ turn: z.object({ id: z.string() }) }),
  'turn/interrupt': Nothing,
  'model/list': z.object({
    data: z.array(
      z.object({
        model: z.string(),
        defaultReasoningEffort: z.string(),
        /** Lowest first. */
        supportedReasoningEfforts: z.array(z.object({ reasoningEffort: z.string() })).default([]),
      }),
    ),
  }),
  'thread/backgroundTerminals/clean': Nothing,
} as const satisfies Record<ClientMethod, z.ZodType>;

export type ClientResults = { [M in ClientMethod]: z.output<(typeof RESULTS)[M]> };

/** An error of a turn: a name, or a name with the provider's status. */
export const TurnFailure = z.object({
  message: z.string(),
  codexErrorInfo: z.unknown(),
});
export type TurnFailure = z.output<typeof TurnFailure>;

/** The items of a turn that become events; others (`userMessage`, `plan`, ...) are not read. */
export const Item = z.discriminatedUnion('type', [
  z.object({ type: z.literal('agentMessage'), id: z.string(), text: z.string() }),
  z.object({
    type: z.literal('reasoning'),
    id: z.string(),
    summary: z.array(z.string()),
    content: z.array(z.string()),
  }),
  z.object({
    type: z.literal('commandExecution'),
    id: z.string(),
    command: z.string(),
    cwd: z.string(),
    status: z.enum(['inProgress', 'completed', 'failed', 'declined']),
    aggregatedOutput: z.string().nullable(),
    exitCode: z.number().nullable(),
    durationMs: z.number().nullable(),
  }),
  z.object({
    type: z.literal('fileChange'),
    id: z.string(),
    changes: z.array(
      z.object({ path: z.string(), kind: z.object({ type: z.enum(['add', 'delete', 'update']) }), diff: z.string() }),
    ),
    status: z.enum(['inProgress', 'completed', 'failed', 'declined']),
  }),
  z.object({
    type: z.literal('mcpToolCall'),
    id: z.string(),
    server: z.string(),
    tool: z.string(),
    status: z.enum(['inProgress', 'completed', 'failed']),
    durationMs: z.number().nullable(),
    error: z.object({ message: z.string() }).nullable(),
  }),
]);
export type Item = z.output<typeof Item>;

const ofTurn = { threadId: z.string(), turnId: z.string() };
const Tokens = z.object({
  inputTokens: z.number(),
  outputTokens: z.number(),
  totalTokens: z.number(),
  cachedInputTokens: z.number(),
  reasoningOutputTokens: z.number(),
});

/** The notifications that are read, by method. */
export const NOTIFICATIONS = {
  'item/started': z.object({ ...ofTurn, item: z.unknown() }),
  'item/completed': z.object({ ...ofTurn, item: z.unknown() }),
  'item/agentMessage/delta': z.object({ ...ofTurn, itemId: z.string(), delta: z.string() }),
  'item/reasoning/summaryTextDelta': z.object({
    ...ofTurn,
    itemId: z.string(),
    delta: z.string(),
    summaryIndex: z.number(),
  }),
  'item/reasoning/textDelta': z.object({ ...ofTurn, itemId: z.string(), delta: z.string(), contentIndex: z.number() }),
  'item/commandExecution/outputDelta': z.object({ ...ofTurn, itemId: z.string(), delta: z.string() }),
  'thread/tokenUsage/updated': z.object({ ...ofTurn, tokenUsage: z.object({ last: Tokens, total: Tokens }) }),
  error: z.object({ ...ofTurn, error: TurnFailure, willRetry: z.boolean() }),
  'turn/completed': z.object({
    threadId: z.string(),
    turn: z.object({
      id: z.string(),
      status: z.enum(['completed', 'interrupted', 'failed', 'inProgress']),
      error: TurnFailure.nullable(),
    }),
  }),
} as const;

export type NotificationMethod = keyof typeof NOTIFICATIONS;
export type Notification = {
  [M in NotificationMethod]: { readonly method: M; readonly params: z.output<(typeof NOTIFICATIONS)[M]> };
}[NotificationMethod];

/** The request to run one of the thread's dynamic tools. */
export const ToolCall = z.object({
  threadId: z.string(),
  turnId: z.string(),
  callId: z.string(),
  tool: z.string(),
  arguments: z.unknown(),
});
export type ToolCall = z.output<typeof ToolCall>;

/** The answer to a tool call. */
export interface ToolAnswer {
  readonly contentItems: { readonly type: 'inputText'; readonly text: string }[];
  readonly success: boolean;
}

/** Requests of the server, and the only answer each gets: nothing is ever approved, since no user can be asked. */
export const ANSWERS = {
  'item/commandExecution/requestApproval': { decision: 'decline' },
  'item/fileChange/requestApproval': { decision: 'decline' },
  'item/permissions/requestApproval': { permissions: {}, scope: 'turn' },
  'item/tool/requestUserInput': { answers: {} },
  'item/tool/call': { contentItems: [], success: false },
  'mcpServer/elicitation/request': { action: 'decline', content: null, _meta: null },
  execCommandApproval: { decision: { denied: { rejection: 'not allowed here' } } },
  applyPatchApproval: { decision: { denied: { rejection: 'not allowed here' } } },
} as const;
