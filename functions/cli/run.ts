// Runs one command against the gateway: a prompt as a stream, a subscription until it is interrupted, anything else as
// one call.

import { once } from 'node:events';
import { CodexGatewayClient } from '../../shared/client/gateway-client.ts';
import { GatewayError } from '../../shared/client/gateway-error.ts';
import type { Methods } from '../../shared/client/methods.ts';
import type { MethodTable } from '../../shared/client/options.ts';
import { METHODS, NOTIFICATIONS } from '../../shared/protocol.ts';
import type { EventBody } from '../../shared/turn-events.ts';
import type { Command } from './arguments.ts';
import { createTextWriter, startProgress } from './output.ts';
import { eraseParts, exportPages } from './owner.ts';
import { UsageError } from './usage-error.ts';

export interface Streams {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

/** Throws GatewayError, UsageError, or the reason of `signal`. */
export async function run(command: Command, { stdout, stderr }: Streams, signal: AbortSignal): Promise<void> {
  const { method, params, json, timeoutMs } = command;
  const client = createClient(command);
  const options = { signal, ...(timeoutMs !== undefined && { timeoutMs }) };
  const line = (message: object): void => void stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  try {
    if (method === METHODS.prompt || method === METHODS.resume) await turn();
    else if (method === METHODS.subscribe) await subscription();
    else if (method === METHODS.ownerExport && !json) await exportAll();
    else if (method === METHODS.ownerErase) await eraseAll();
    else answer(await client.call(method, params, options));
  } catch (error) {
    if (json && error instanceof GatewayError) line({ error: toWire(error), id: 1 });
    throw error;
  }

  function answer(result: unknown): void {
    if (json) line({ result, id: 1 });
    else stdout.write(`${JSON.stringify(result, null, stdout.isTTY ? 2 : undefined)}\n`);
  }

  async function turn(): Promise<void> {
    const isPrompt = method === METHODS.prompt;
    const stream = isPrompt
      ? client.stream(promptParams(params), { ...options, cancelOnAbort: true })
      : client.resume(resumeParams(params), options);
    const text = createTextWriter(stdout);
    const progress = startProgress(stderr);
    let chars = 0;
    try {
      for await (const event of stream) {
        if (json) line({ method: NOTIFICATIONS.turnEvent, params: event });
        const delta = event.event.AgentMessageDelta?.delta;
        if (delta === undefined) progress.show(describe(event.event) ?? 'working');
        else {
          chars += delta.length;
          // On one terminal the text itself is the progress.
          if (stdout.isTTY && !json) progress.end();
          progress.show(`${chars} characters`);
          if (!json) text.write(delta);
        }
      }
      const result = await stream.answer();
      if (json) line({ result, id: 1 });
      progress.end();
      text.end();
      if (stderr.isTTY && !json) stderr.write(`${summary(result)}\n`);
    } finally {
      progress.end();
      if (!json) text.end();
    }
  }

  async function exportAll(): Promise<void> {
    const call = (page: Command['params']) => client.call(METHODS.ownerExport, page, options);
    for await (const text of exportPages(call, params)) {
      if (!stdout.write(text)) await once(stdout, 'drain', { signal });
    }
  }

  async function eraseAll(): Promise<void> {
    const call = (part: Command['params']) => client.call(METHODS.ownerErase, part, options);
    for await (const part of eraseParts(call, params, signal)) answer(part);
  }

  async function subscription(): Promise<void> {
    for await (const notification of client.notifications(method, params, options)) {
      if (json) line(notification);
      else if (notification.method === NOTIFICATIONS.webhookEvent)
        stdout.write(`${JSON.stringify(notification.params)}\n`);
    }
  }
}

/** Any method may be called: the gateway validates the name, which may be one added to it. */
function createClient({ url, key, streaming, socketUrl }: Command): CodexGatewayClient<MethodTable> {
  if (streaming === 'websocket' && typeof WebSocket === 'undefined')
    throw new UsageError('--ws needs Node 22 or later');
  try {
    return new CodexGatewayClient<MethodTable>(url, key, { streaming, ...(socketUrl !== undefined && { socketUrl }) });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The gateway validates the rest; these two checks narrow the types. */
function promptParams(params: Command['params']): Methods['conversation.prompt']['params'] {
  const { prompt } = params;
  if (typeof prompt !== 'string' && !Array.isArray(prompt))
    throw new UsageError('the params lack "prompt", a string or a list of parts');
  return { ...params, prompt };
}

function resumeParams(params: Command['params']): Methods['conversation.resume']['params'] {
  if (typeof params.session_id !== 'string') throw new UsageError('the params lack "session_id", a string');
  return { ...params, session_id: params.session_id };
}

function describe(event: EventBody): string | undefined {
  if (event.TaskStarted) return event.TaskStarted.model;
  if (event.AgentReasoning) return 'thinking';
  if (event.ExecCommandBegin) return event.ExecCommandBegin.command.join(' ');
  if (event.McpToolCallBegin) return `${event.McpToolCallBegin.server}: ${event.McpToolCallBegin.tool}`;
  if (event.StreamError) return `${event.StreamError.message}; trying again`;
  if (event.ContextTrimmed) return `the conversation is too long: ${event.ContextTrimmed.trimmed} messages left out`;
  if (event.PatchApplyBegin) return 'changing files';
  return undefined;
}

function summary(result: {
  readonly session_id: string;
  readonly model?: string;
  readonly usage?: { readonly total_tokens: number } | undefined;
}): string {
  const { session_id, model, usage } = result;
  return [`session ${session_id}`, model, usage && `${usage.total_tokens} tokens`].filter(Boolean).join(' · ');
}

function toWire({ code, message, data, reason }: GatewayError): object {
  return { code, message, data: { ...data, reason } };
}
