// Decides where a prompt runs: Codex is a process, and only the companion starts processes. A separate file, so that a
// function decides it without loading the engines.
import type { Place } from '../rpc/method.ts';
import type { Credential } from './engine.ts';

/** Where a prompt with this model runs. `model` is resolved: the deployment's default if the caller named none. */
export function placeOfModel(model: string): Place {
  return model.startsWith('codex/') ? 'companion' : 'local';
}

/**
 * Where a prompt with a login and without a model runs: it gets the provider's default model, which for ChatGPT is a
 * Codex model.
 */
export function placeOfLogin(provider: Credential['provider']): Place {
  return provider === 'chatgpt' ? 'companion' : 'local';
}

/** Thrown by a call that can be forwarded, before it has changed anything, because it must run on the companion. */
export class RunsOnCompanion extends Error {}
