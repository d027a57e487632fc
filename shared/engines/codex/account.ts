// The account with which a thread calls the provider: the deployment's key, or the caller's login. The secret is sent
// to the app-server over stdio, with its thread, and is held in memory only.
import { createHash } from 'node:crypto';
import { RpcError } from '../../errors.ts';
import type { TurnInput } from '../engine.ts';
import { type ProviderId, threadConfig } from './server/config-toml.ts';

export interface Account {
  /** Hash that identifies the account without revealing the secret. */
  readonly id: string;
  /** Settings of `thread/start` and `thread/resume`; holds the secret. */
  readonly settings: { readonly modelProvider: ProviderId; readonly config: ReturnType<typeof threadConfig> };
}

/** Throws RpcError `invalid_params` when there is no key at all. */
export function toAccount(turn: Pick<TurnInput, 'credential'>, apiKey: string | undefined): Account {
  const { credential } = turn;
  const secret = credential?.token() ?? apiKey;
  if (secret === undefined) {
    const issues = [{ path: 'model', message: 'Codex has no credentials here: set OPENAI_API_KEY, or log in' }];
    throw new RpcError('invalid_params', { data: { issues } });
  }
  const modelProvider: ProviderId = credential?.provider === 'chatgpt' ? 'chatgpt' : 'gateway';
  const headers = modelProvider === 'chatgpt' ? accountHeaders(secret) : undefined;
  const digest = createHash('sha256').update(`${modelProvider} ${secret}`).digest('base64url');
  return { id: digest, settings: { modelProvider, config: threadConfig(modelProvider, secret, headers) } };
}

/** ChatGPT's backend requires the account that its access token (a JWT) names. */
function accountHeaders(token: string): { [name: string]: string } {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const auth = member(claims, 'https://api.openai.com/auth');
    const account = member(auth, 'chatgpt_account_id');
    return typeof account === 'string' && /^[\w-]{1,128}$/.test(account) ? { 'chatgpt-account-id': account } : {};
  } catch {
    return {};
  }
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
