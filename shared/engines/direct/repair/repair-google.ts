// Gemini's stream. The SDK validates every member of a chunk. Members that the gateway does not use are removed, so
// that a new form of them does not fail the answer.
import { isObject, type JsonObject } from '../../../json/json-object.ts';
import type { EventRepair } from './stream-repair.ts';

export function createGoogleRepair(): EventRepair {
  return { repair };
}

const repair: EventRepair['repair'] = (event) => {
  const { responseId, candidates, usageMetadata, promptFeedback, error } = event;
  if (isText(event)) return undefined;
  if (typeof error === 'string' || isObject(error)) return [{ error: toError(error) }];
  return [
    {
      ...(typeof responseId === 'string' && { responseId }),
      ...(Array.isArray(candidates) && { candidates: candidates.filter(isObject).map(toCandidate) }),
      ...(isObject(usageMetadata) && { usageMetadata: toUsage(usageMetadata) }),
      ...(isObject(promptFeedback) && { promptFeedback: toFeedback(promptFeedback) }),
    },
  ];
};

/** Whether a chunk contains only text and token counts, as most chunks do. */
function isText({ candidates, usageMetadata, promptFeedback, error }: JsonObject): boolean {
  if (promptFeedback !== undefined || error !== undefined || !Array.isArray(candidates)) return false;
  if (isObject(usageMetadata) && Object.values(usageMetadata).some((value) => typeof value !== 'number')) return false;
  const [candidate] = candidates;
  if (candidates.length !== 1 || !isObject(candidate)) return false;
  const { content } = candidate;
  if (Object.keys(candidate).some((name) => name !== 'content' && name !== 'index')) return false;
  if (!isObject(content) || !Array.isArray(content.parts) || content.parts.length !== 1) return false;
  const [part] = content.parts;
  return isObject(part) && typeof part.text === 'string' && Object.keys(part).length === 1;
}

function toCandidate({ content, finishReason, finishMessage }: JsonObject): JsonObject {
  const parts: readonly unknown[] = isObject(content) && Array.isArray(content.parts) ? content.parts : [];
  return {
    content: { parts: parts.filter(isObject).flatMap(toPart) },
    ...(typeof finishReason === 'string' && { finishReason }),
    ...(typeof finishMessage === 'string' && { finishMessage }),
  };
}

/** Returns text, thoughts and tool calls; removes other kinds of parts. */
function toPart({ text, thought, thoughtSignature, functionCall }: JsonObject): JsonObject[] {
  const signed = typeof thoughtSignature === 'string' && { thoughtSignature };
  if (isObject(functionCall)) {
    const { id, name, args } = functionCall;
    return typeof name === 'string'
      ? [{ functionCall: { ...(typeof id === 'string' && { id }), name, args }, ...signed }]
      : [];
  }
  if (typeof text !== 'string' && !signed) return [];
  return [{ text: typeof text === 'string' ? text : '', ...(thought === true && { thought }), ...signed }];
}

function toUsage(usage: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(usage).filter(([, value]) => typeof value === 'number'));
}

function toFeedback({ blockReason }: JsonObject): JsonObject {
  return typeof blockReason === 'string' ? { blockReason } : {};
}

function toError(error: string | JsonObject): JsonObject {
  const { code, message, status } = typeof error === 'string' ? { code: null, message: error, status: '' } : error;
  return {
    code: typeof code === 'number' ? code : null,
    message: typeof message === 'string' ? message : 'no reason given',
    status: typeof status === 'string' ? status : '',
  };
}
