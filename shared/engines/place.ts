// Where a prompt runs: Codex is a process, and only the companion starts processes. Apart from the engines, so that a
// function decides it without loading them.
import type { Place } from '../rpc/method.ts';
import type { Credential } from './engine.ts';

/** Of a prompt with this model (resolved: the deployment's default where the caller named none). */
export function placeOfModel(model: string): Place {
  return model.startsWith('codex/') ? 'companion' : 'local';
}

/** Of a prompt that names a login and no model: it gets the provider's default model, which for ChatGPT is Codex's. */
export function placeOfLogin(provider: Credential['provider']): Place {
  return provider === 'chatgpt' ? 'companion' : 'local';
}

/** Thrown by a call that can be forwarded, before it has changed anything: what it needs is on the companion. */
export class RunsOnCompanion extends Error {}
