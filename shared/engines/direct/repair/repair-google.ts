// Gemini's stream. The SDK validates every member of a chunk. Members that the gateway does not use are removed, so
// that a new form of them does not fail the answer.
import { type EventRepair, isJson, type Json } from './stream-repair.ts';

export function createGoogleRepair(): EventRepair {
  return { repair };
}

const repair: EventRepair['repair'] = (event) => {
  const { responseId, candidates, usageMetadata, promptFeedback, error } = event;
  if (isText(event)) return undefined;
  if (typeof error === 'string' || isJson(error)) return [{ error: toError(error) }];
  return [
    {
      ...(typeof responseId === 'string' && { responseId }),
      ...(Array.isArray(candidates) && { candidates: candidates.filter(isJson).map(toCandidate) }),
      ...(isJson(usageMetadata) && { usageMetadata: toUsage(usageMetadata) }),
      ...(isJson(promptFeedback) && { promptFeedback: toFeedback(promptFeedback) }),
    },
  ];
};

/** Whether a chunk contains only text and token counts, as most chunks do. */
function isText({ candidates, usageMetadata, promptFeedback, error }: Json): boolean {
  if (promptFeedback !== undefined || error !== undefined || !Array.isArray(candidates)) return false;
  if (isJson(usageMetadata) && Object.values(usageMetadata).some((value) => typeof value !== 'number')) return false;
  const [candidate] = candidates;
  if (candidates.length !== 1 || !isJson(candidate)) return false;
  const { content } = candidate;
  if (Object.keys(candidate).some((name) => name !== 'content' && name !== 'index')) return false;
  if (!isJson(content) || !Array.isArray(content.parts) || content.parts.length !== 1) return false;
  const [part] = content.parts;
  return isJson(part) && typeof part.text === 'string' && Object.keys(part).length === 1;
}

function toCandidate({ content, finishReason, finishMessage }: Json): Json {
  const parts: readonly unknown[] = isJson(content) && Array.isArray(content.parts) ? content.parts : [];
  return {
    content: { parts: parts.filter(isJson).flatMap(toPart) },
    ...(typeof finishReason === 'string' && { finishReason }),
    ...(typeof finishMessage === 'string' && { finishMessage }),
  };
}

/** Returns text, thoughts and tool calls; removes other kinds of parts. */
function toPart({ text, thought, thoughtSignature, functionCall }: Json): Json[] {
  const signed = typeof thoughtSignature === 'string' && { thoughtSignature };
  if (isJson(functionCall)) {
    const { id, name, args } = functionCall;
    return typeof name === 'string'
      ? [{ functionCall: { ...(typeof id === 'string' && { id }), name, args }, ...signed }]
      : [];
  }
  if (typeof text !== 'string' && !signed) return [];
  return [{ text: typeof text === 'string' ? text : '', ...(thought === true && { thought }), ...signed }];
}

function toUsage(usage: Json): Json {
  return Object.fromEntries(Object.entries(usage).filter(([, value]) => typeof value === 'number'));
}

function toFeedback({ blockReason }: Json): Json {
  return typeof blockReason === 'string' ? { blockReason } : {};
}

function toError(error: string | Json): Json {
  const { code, message, status } = typeof error === 'string' ? { code: null, message: error, status: '' } : error;
  return {
    code: typeof code === 'number' ? code : null,
    message: typeof message === 'string' ? message : 'no reason given',
    status: typeof status === 'string' ? status : '',
  };
}
