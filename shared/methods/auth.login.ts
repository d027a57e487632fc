// `auth.login`: stores a provider's credentials for prompts with `auth_session_id`.
import { z } from 'zod';
import { LOGIN_PROVIDERS } from '../auth/logins/login-check.ts';
import { defineMethod } from './define-method.ts';

const EXAMPLE_ID = 'auth_0f8c6d1e2b7a4c5d9e3f1a2b3c4d5e6f';

export const authLogin = defineMethod({
  name: 'auth.login',
  summary: 'Checks a provider’s API key or access token and stores it encrypted, for prompts with `auth_session_id`',
  scope: 'auth',
  cost: 'work',
  params: z.strictObject({
    provider: z
      .enum(LOGIN_PROVIDERS)
      .describe('API key of openai, anthropic or google (Gemini API); access token of chatgpt, for codex models'),
    credentials: z.strictObject(
      {
        token: z
          .string()
          .min(1)
          .max(16_384)
          .regex(/^[\x21-\x7e]+$/, 'must be one word of printable ASCII characters'),
      },
      // zod's message contains the name of the unknown member, which may be a misplaced token.
      { error: ({ code }) => (code === 'unrecognized_keys' ? 'must have no member other than token' : undefined) },
    ),
  }),
  result: z.object({
    session_id: z.string().describe('For `auth_session_id` of conversation.prompt, and for auth.logout'),
    provider: z.enum(LOGIN_PROVIDERS),
    expires_at: z.string().describe('ISO 8601; in 30 days, or when the token expires'),
  }),
  errors: ['forbidden', 'unavailable'],
  example: {
    params: { provider: 'chatgpt', credentials: { token: 'user-token-from-chatgpt' } },
    result: { session_id: EXAMPLE_ID, provider: 'chatgpt', expires_at: '2026-12-13T14:20:00.000Z' },
  },
  async handle({ provider, credentials }, { services, caller, signal }) {
    const { sessionId, expiresAtMs } = await services.logins.login(caller.keyId, provider, credentials.token, signal);
    return { session_id: sessionId, provider, expires_at: new Date(expiresAtMs).toISOString() };
  },
});
