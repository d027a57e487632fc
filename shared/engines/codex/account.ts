// The account with which a turn calls the provider: the deployment's key, or the caller's login. The secret never
// leaves this process but to the provider: Codex has a random token in its place (running-turns.ts).
import { createHash } from 'node:crypto';
import { RpcError } from '../../errors.ts';
import type { TurnInput } from '../engine.ts';

/** `gateway`: the API that keys are for. `chatgpt`: the backend that ChatGPT's access tokens are for. */
export type ProviderId = 'gateway' | 'chatgpt';

export interface Account {
  /** Hash that identifies the account without revealing the secret. */
  readonly id: string;
  readonly provider: ProviderId;
  /** The headers with the credential. A function, so that no logger or serialiser that meets the object shows it. */
  headers(): Readonly<Record<string, string>>;
}

/** Throws RpcError `invalid_params` when there is no key at all. */
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
