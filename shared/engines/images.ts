// Decides whether a model accepts images, and replaces those of a conversation by texts for a model that does not.
import { type MessagePart, replaceImages } from '../messages/message-parts.ts';
import type { Message } from './engine.ts';
import { modelFacts } from './models/model-facts.ts';

/** False only for a model that is known to take none. */
export async function takesImages(...[model, config, nowMs]: Parameters<typeof modelFacts>): Promise<boolean> {
  const { input } = await modelFacts(model, config, nowMs);
  return input === undefined || input.includes('image');
}

export function hasImages({ parts = [] }: { readonly parts?: readonly MessagePart[] | undefined }): boolean {
  return parts.some(({ type }) => type === 'image');
}

/** The messages for a model that takes no images: those of earlier prompts, for other models, become a text. */
export function withoutImages(messages: readonly Message[]): readonly Message[] {
  return messages.map((message) =>
    hasImages(message) ? { ...message, parts: replaceImages(message.parts ?? []) } : message,
  );
}
