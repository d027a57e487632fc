// The stream of chat completions as servers with OpenAI's wire write it (vLLM, llama.cpp, Ollama, LM Studio, Groq,
// Together, Mistral, OpenRouter, Azure). The SDK refuses a chunk with a member of another type or without choices, so
// every chunk is reduced to the members that the gateway uses.

import { isObject, type JsonObject } from '../../../json/json-object.ts';
import { NotAStream } from '../../failures/not-a-stream.ts';
import type { EventRepair } from './stream-repair.ts';

/** Reasons for the end of an answer, in the words of servers -> those of OpenAI. */
const REASONS: Readonly<Record<string, string>> = {
  ...{ eos: 'stop', eos_token: 'stop', end_turn: 'stop', stop_sequence: 'stop', complete: 'stop' },
  ...{ max_tokens: 'length', model_length: 'length', tool_use: 'tool_calls' },
  ...{ safety: 'content_filter', content_filtered: 'content_filter' },
};
const FAILED: ReadonlySet<string> = new Set(['error', 'abort']);

export function createChatRepair(): EventRepair {
  let hasText = false;
  let hasEnd = false;

  return {
    repair(event) {
      const { error, choices, usage, x_groq: groq } = event;
      const failure = toError(error) ?? (Array.isArray(choices) ? undefined : toError(event));
      if (failure !== undefined) return [{ error: failure }];
      if (typeof event.type === 'string' && event.type.startsWith('response.'))
        throw new NotAStream('{}', 'a stream of the Responses API');
      const choice = Array.isArray(choices) ? choices.find(isObject) : undefined;
      const counted = [usage, isObject(groq) ? groq.usage : undefined, choice?.usage].find(isObject);
      const repaired = choice === undefined ? undefined : toChoice(choice);
      if (repaired === undefined && counted === undefined) return [];
      if (FAILED.has(String(repaired?.finish_reason)))
        return [{ error: { message: `the server ended its answer (${repaired?.finish_reason})` } }];
      return [
        {
          ...texts(event, ['id', 'model']),
          choices: repaired === undefined ? [] : [repaired],
          ...(counted !== undefined && { usage: toUsage(counted) }),
        },
      ];
    },
    // Some servers end with this marker only.
    atEnd: () => (hasText && !hasEnd ? [{ choices: [{ delta: {}, finish_reason: 'stop' }] }] : []),
  };

  function toChoice({ delta, message, finish_reason: reason }: JsonObject): JsonObject {
    const end = typeof reason === 'string' && reason !== '' ? reason.toLowerCase() : undefined;
    if (end !== undefined) hasEnd = true;
    // A message that follows deltas repeats their text.
    const given = isObject(delta) ? delta : isObject(message) && !hasText ? message : {};
    if (given.content !== undefined && given.content !== null && given.content !== '') hasText = true;
    return { delta: toDelta(given), ...(end !== undefined && { finish_reason: REASONS[end] ?? end }) };
  }
}

function toDelta(delta: JsonObject): JsonObject {
  const { content, tool_calls: calls } = delta;
  const parts = Array.isArray(content) ? content.filter((part) => isObject(part) && typeof part.type === 'string') : [];
  const toolCalls = Array.isArray(calls) ? calls.filter(isObject).flatMap(toToolCall) : [];
  return {
    ...texts(delta, ['content', 'refusal', 'reasoning_content', 'reasoning']),
    ...(parts.length > 0 && { content: parts }),
    ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
  };
}

function toToolCall(call: JsonObject): JsonObject[] {
  if (!isObject(call.function)) return [];
  const { arguments: args } = call.function;
  const text = isObject(args) ? JSON.stringify(args) : args;
  const { extra_content: extra } = call;
  return [
    {
      ...texts(call, ['id']),
      ...(typeof call.index === 'number' && { index: call.index }),
      function: { ...texts(call.function, ['name']), ...(typeof text === 'string' && { arguments: text }) },
      // The signature of Gemini's thoughts, which its next call requires.
      ...(isObject(extra) && isObject(extra.google) && { extra_content: { google: texts(extra.google, [SIGNATURE]) } }),
    },
  ];
}

const SIGNATURE = 'thought_signature';

function toUsage(usage: JsonObject): JsonObject {
  const { prompt_tokens = usage.input_tokens, completion_tokens = usage.output_tokens } = usage;
  const { prompt_tokens_details: prompt, completion_tokens_details: completion } = usage;
  return {
    ...numbers({ prompt_tokens, completion_tokens }),
    ...(isObject(prompt) && { prompt_tokens_details: numbers(prompt) }),
    ...(isObject(completion) && { completion_tokens_details: numbers(completion) }),
  };
}

/** An error in the forms of servers: an object with a message, a text, FastAPI's `detail`. */
function toError(value: unknown): JsonObject | undefined {
  if (typeof value === 'string' && value !== '') return { message: value };
  if (!isObject(value)) return undefined;
  const { message = value.detail ?? value.msg, code, type, status } = value;
  const known = { ...texts({ type }, ['type']), ...toCode(code ?? status) };
  if (typeof message === 'string') return { message, ...known };
  return Object.keys(known).length > 0 && value.object === 'error'
    ? { message: 'no reason given', ...known }
    : undefined;
}

function toCode(code: unknown): JsonObject {
  return typeof code === 'string' || typeof code === 'number' ? { code } : {};
}

function texts(value: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(names.flatMap((name) => (typeof value[name] === 'string' ? [[name, value[name]]] : [])));
}

function numbers(value: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(value).filter(([, count]) => typeof count === 'number'));
}
