// The dependencies that the files of this folder share.
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { ModelHealth } from '../engines/models/model-health.ts';
import type { Logger } from '../log.ts';
import type { Store } from '../store/store.ts';
import type { Tracer } from '../telemetry/tracer.ts';
import type { OwnerWatch } from './owner-watch.ts';
import type { ConversationCache } from './records/conversation-cache.ts';
import type { History } from './records/messages/history.ts';
import type { Retention } from './records/retention.ts';
import type { UsageLedger } from './records/usage-ledger.ts';

export interface TurnDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer: Tracer | undefined;
  readonly history: History;
  readonly cache: ConversationCache;
  readonly retention: Retention;
  readonly ledger: UsageLedger;
  readonly owners: OwnerWatch;
  /** Most bytes of messages that an owner may store. */
  readonly storageBytesMax: number;
  readonly turns: Config['turns'];
  readonly models: ModelHealth;
}
