// Connects a function to the companion of its configuration. What a first forwarded call needs is imported then.
import type { Config } from '../config/config.ts';
import type { MethodContext } from '../methods/define-method.ts';
import type { Registry } from '../rpc/method.ts';
import { type CompanionService, openCompanionService } from './companion-service.ts';
import type { OpenExchange } from './exchange.ts';
import { type Companion, forwardToCompanion } from './forward.ts';
import type { CompanionAccess } from './http-companion.ts';

export interface Connected {
  /**
   * The registry of a function, which cannot start processes: methods that need one are forwarded, or refused without a
   * companion.
   */
  readonly registry: Registry<MethodContext>;
  /** Forwards whole requests; undefined where turns run in the function. */
  readonly openExchange: OpenExchange | undefined;
  /** Loads what a forwarded call needs. Never rejects. */
  warm(): Promise<void>;
}

/** `service`: connections that are open already. */
export function connectCompanion(
  registry: Registry<MethodContext>,
  { companion, turnsRun }: Pick<Config, 'companion' | 'turnsRun'>,
  service?: CompanionService,
): Connected {
  const { url, audience } = companion;
  if (url === undefined || audience === undefined) {
    return { registry: forwardToCompanion(registry, undefined), openExchange: undefined, warm: async () => {} };
  }
  let opened: ReturnType<typeof open> | undefined;
  const access = (): ReturnType<typeof open> => {
    opened ??= open(service ?? openCompanionService(url), audience);
    return opened;
  };
  const send: Companion = async function* (call) {
    yield* (await access()).send(call);
  };
  return {
    registry: forwardToCompanion(registry, send, turnsRun),
    openExchange: turnsRun === 'companion' ? async (request) => (await access()).openExchange(request) : undefined,
    async warm() {
      const { authorization } = await access();
      await authorization(new AbortController().signal).catch(() => {});
    },
  };
}

async function open(service: CompanionService, audience: string) {
  const [{ createHttpCompanion }, { createOpenExchange }, { createIdTokens }] = await Promise.all([
    import('./http-companion.ts'),
    import('./exchange.ts'),
    import('../auth/id-token.ts'),
  ]);
  const access: CompanionAccess = { service, authorization: createIdTokens(audience, 'companion') };
  return { ...access, send: createHttpCompanion(access), openExchange: createOpenExchange(access) };
}
