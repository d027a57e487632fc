// Which models are answered by a process, and so only where processes may be started, and what a call throws that finds
// out later that it must run there. Apart from the engines, so that a function can ask without loading them.
import type { Credential } from './engine.ts';

/**
 * Whether a prompt with this model (resolved: the deployment's default when the caller named none) must run on the
 * companion.
 */
export function needsCompanion(model: string): boolean {
  return model.startsWith('codex/');
}

/**
 * The same for a prompt that names no model but a login with this provider, whose default model it gets: ChatGPT's is
 * one of Codex.
 */
export function loginNeedsCompanion(provider: Credential['provider']): boolean {
  return provider === 'chatgpt';
}

/**
 * Thrown, before anything was changed, by a call that can be forwarded: what it needs is in the companion's memory.
 */
export class NeedsCompanion extends Error {}
