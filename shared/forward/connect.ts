// Connects a function to the companion of its configuration. Its modules are imported at the first forwarded call.
import type { Config } from '../config/config.ts';
import type { MethodContext } from '../methods/define-method.ts';
import type { Registry } from '../rpc/method.ts';
import { type Companion, forwardToCompanion } from './forward.ts';

/**
 * The registry of a function, which cannot start processes: methods that need one are forwarded, or refused without a
 * companion.
 */
export function connectCompanion(
  registry: Registry<MethodContext>,
  { companion }: Pick<Config, 'companion'>,
): Registry<MethodContext> {
  const { url, audience } = companion;
  if (url === undefined || audience === undefined) return forwardToCompanion(registry, undefined);
  let opened: Promise<Companion> | undefined;
  return forwardToCompanion(registry, async function* send(call) {
    opened ??= open(url, audience);
    yield* (await opened)(call);
  });
}

async function open(url: string, audience: string): Promise<Companion> {
  const [{ createHttpCompanion }, { createIdTokens }] = await Promise.all([
    import('./http-companion.ts'),
    import('../auth/id-token.ts'),
  ]);
  return createHttpCompanion({ url, authorization: createIdTokens(audience, 'companion') });
}
