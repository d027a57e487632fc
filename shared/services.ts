// All services that methods use, in one object that is created once and passed as an argument (no singletons).
import type { Keys } from './auth/keys/keys.ts';
import type { Logins } from './auth/logins/logins.ts';
import type { Origins } from './auth/origins.ts';
import type { WrongCredentials } from './auth/wrong-credentials.ts';
import type { Clock, Ids } from './clock.ts';
import type { Config } from './config/config.ts';
import type { Conversations } from './conversations/conversations.ts';
import type { Engines } from './engines/engine.ts';
import type { Logger } from './log.ts';
import type { Mcp } from './mcp/connections.ts';
import type { Limiter } from './rate-limit/limiter.ts';
import type { Commands } from './sandbox/commands.ts';
import type { Erasures } from './sandbox-records/erasures.ts';
import type { Store } from './store/store.ts';
import type { Tracer } from './telemetry/tracer.ts';
import type { Terminals } from './terminals/terminals.ts';
import type { EventBus } from './webhooks/event.ts';

export interface Services {
  readonly config: Config;
  readonly log: Logger;
  /** Undefined: spans are not recorded. */
  readonly tracer: Tracer | undefined;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly store: Store;
  readonly bus: EventBus;
  readonly keys: Keys;
  /** The web origins whose pages may call. */
  readonly origins: Origins;
  readonly wrongCredentials: WrongCredentials;
  readonly logins: Logins;
  readonly limiter: Limiter;
  readonly engines: Engines;
  readonly conversations: Conversations;
  readonly commands: Commands;
  readonly terminals: Terminals;
  readonly mcp: Mcp;
  /** Of sessions and owners, in the sandbox. */
  readonly erasures: Erasures;
  /** Closes files, connections and listeners; call it after running requests have ended. */
  close(): Promise<void>;
}
