// Schemas of the fields of results that this page reads. The gateway may add fields; it never changes these.
import * as z from 'zod/mini';

export const Identity = z.object({
  key_id: z.string(),
  windows: z.array(
    z.object({ window_seconds: z.number(), limit: z.number(), remaining: z.number(), reset: z.number() }),
  ),
});

export const Models = z.object({
  models: z.array(z.object({ id: z.string(), default: z.boolean(), input: z.optional(z.array(z.string())) })),
});

export const Conversations = z.object({
  conversations: z.array(
    z.object({
      session_id: z.string(),
      status: z.string(),
      model: z.string(),
      updated_at: z.string(),
      message_count: z.number(),
      title: z.optional(z.string()),
    }),
  ),
  next_cursor: z.optional(z.string()),
});
export const History = z.object({
  messages: z.array(
    z.object({
      seq: z.number(),
      role: z.enum(['user', 'assistant']),
      content: z.string(),
      parts: z.optional(
        z.array(z.looseObject({ type: z.string(), media_type: z.optional(z.string()), data: z.optional(z.string()) })),
      ),
      turn_id: z.string(),
      partial: z.optional(z.boolean()),
      error: z.optional(z.object({ reason: z.string() })),
    }),
  ),
  next_cursor: z.optional(z.string()),
});
export const Status = z.object({
  status: z.string(),
  turn: z.optional(z.object({ turn_id: z.string(), status: z.string() })),
});
export const Answered = z.object({ content: z.string() });
export const Resumed = z.object({ content: z.string(), status: z.string() });

export const RecordedEvent = z.object({
  event_id: z.string(),
  event: z.string(),
  received_at: z.string(),
  source: z.string(),
  data: z.unknown(),
});
export const Events = z.object({ events: z.array(RecordedEvent) });
export const LiveEvent = z.extend(RecordedEvent, { subscription_id: z.string(), cursor: z.string() });
export const Subscribed = z.object({ subscription_id: z.string(), cursor: z.string() });
export const Deployments = z.object({
  deployments: z.array(
    z.object({
      service: z.string(),
      region: z.string(),
      version: z.nullable(z.string()),
      status: z.string(),
      event_id: z.string(),
      updated_at: z.string(),
    }),
  ),
});

export const Terminal = z.object({ session_id: z.string(), seq: z.number(), resumed: z.boolean() });
export const TerminalOutput = z.object({
  session_id: z.string(),
  seq: z.number(),
  data: z.string(),
  missed: z.optional(z.unknown()),
});
export const TerminalExit = z.object({ session_id: z.string(), exit_code: z.nullable(z.number()) });
export const Anything = z.unknown();

export const Schema = z.looseObject({
  type: z.optional(z.union([z.string(), z.array(z.string())])),
  enum: z.optional(z.array(z.unknown())),
  default: z.optional(z.unknown()),
  minimum: z.optional(z.number()),
  maximum: z.optional(z.number()),
  maxLength: z.optional(z.number()),
  items: z.optional(z.looseObject({ type: z.optional(z.string()) })),
  anyOf: z.optional(z.array(z.looseObject({ type: z.optional(z.string()) }))),
});
export const Discovery = z.object({
  methods: z.array(
    z.object({
      name: z.string(),
      summary: z.string(),
      params: z.array(
        z.object({ name: z.string(), required: z.boolean(), description: z.optional(z.string()), schema: Schema }),
      ),
      examples: z.array(z.object({ params: z.array(z.object({ name: z.string(), value: z.unknown() })) })),
      'x-scope': z.nullable(z.string()),
      'x-unavailable-reason': z.optional(z.string()),
    }),
  ),
});

export type MethodDescription = z.infer<typeof Discovery>['methods'][number];
export type Param = MethodDescription['params'][number];
export type ConversationRow = z.infer<typeof Conversations>['conversations'][number];
export type EventRow = z.infer<typeof RecordedEvent>;
export type DeploymentRow = z.infer<typeof Deployments>['deployments'][number];
