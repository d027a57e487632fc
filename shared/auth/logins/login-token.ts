// Reads expiry and account from the claims of a provider's token. It does not verify the signature, because the
// provider validates the token.
import { z } from 'zod';

export interface TokenFacts {
  /** The `exp` claim in epoch milliseconds; undefined for an API key or a JWT without `exp`. */
  readonly expiresAtMs: number | undefined;
  /** The ChatGPT account that OpenAI writes into its access tokens. */
  readonly accountId: string | undefined;
}

const NOTHING: TokenFacts = { expiresAtMs: undefined, accountId: undefined };

const Claims = z.object({
  exp: z.number().positive().max(1e11).optional().catch(undefined),
  'https://api.openai.com/auth': z
    .object({ chatgpt_account_id: z.string().regex(/^[\w-]{1,128}$/) })
    .optional()
    .catch(undefined),
});

export function readToken(token: string): TokenFacts {
  const payload = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(token)?.[1];
  if (payload === undefined) return NOTHING;
  try {
    const claims = Claims.parse(JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')));
    return {
      expiresAtMs: claims.exp === undefined ? undefined : Math.floor(claims.exp * 1_000),
      accountId: claims['https://api.openai.com/auth']?.chatgpt_account_id,
    };
  } catch {
    return NOTHING;
  }
}
