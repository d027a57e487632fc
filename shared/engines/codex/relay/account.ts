// The account of a turn at the provider: the key of the deployment, or the login of the caller. The secret is sent only
// to the provider; Codex has a random token instead of it (running-turns.ts).

import { createHash } from 'node:crypto';
import { RpcError } from '../../../errors.ts';
import { memberOf } from '../../../json/json-object.ts';
import type { TurnInput } from '../../engine.ts';

/** `gateway`: the API for API keys. `chatgpt`: the backend for access tokens of ChatGPT. */
export type ProviderId = 'gateway' | 'chatgpt';

export interface Account {
  /** Hash that identifies the account without revealing the secret. */
  readonly id: string;
  readonly provider: ProviderId;
  /**
   * Returns the headers with the credential. It is a function, so that loggers and serialisers do not output the
   * credential.
   */
  headers(): Readonly<Record<string, string>>;
}

/** Throws RpcError `invalid_params` if there is neither a key nor a login. */
export function toAccount(turn: Pick<TurnInput, 'credential'>, apiKey: string | undefined): Account {
  const { credential } = turn;
  const secret = credential?.token() ?? apiKey;
  if (secret === undefined) {
    const issues = [{ path: 'model', message: 'Codex has no credentials here: set OPENAI_API_KEY, or log in' }];
    throw new RpcError('invalid_params', { data: { issues } });
  }
  const provider: ProviderId = credential?.provider === 'chatgpt' ? 'chatgpt' : 'gateway';
  return {
    id: createHash('sha256').update(`${provider} ${secret}`).digest('base64url'),
    provider,
    headers: () => ({ authorization: `Bearer ${secret}`, ...(provider === 'chatgpt' && accountHeaders(secret)) }),
  };
}

/** Returns the account id in an access token of ChatGPT (a JWT), which its backend requires as a header. */
function accountHeaders(token: string): { [name: string]: string } {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    const auth = memberOf(claims, 'https://api.openai.com/auth');
    const account = memberOf(auth, 'chatgpt_account_id');
    return typeof account === 'string' && /^[\w-]{1,128}$/.test(account) ? { 'chatgpt-account-id': account } : {};
  } catch {
    return {};
  }
}
