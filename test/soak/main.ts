// `npm run soak [minutes] [seed] [fault]`: traffic, faults (all, or those whose name contains the third argument),
// audit, report; exit code 1 after a violation. Stops every process that it started, however it ends.
import { randomBytes, randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findEmulators } from '../support/fixtures/database/emulators.ts';
import { createRandom } from '../support/random.ts';
import { auditTurns } from './audit/audit.ts';
import { auditEvents, auditLimits, auditMemory } from './audit/audit-counts.ts';
import { auditStore } from './audit/audit-store.ts';
import { startFaults } from './fleet/faults.ts';
import { startFleet } from './fleet/fleet.ts';
import { observeStore } from './fleet/observer.ts';
import { createChecks } from './guarantees.ts';
import { createJournal } from './journal/journal.ts';
import { answerPrompts } from './journal/prompts.ts';
import { createProviderLog } from './journal/provider-log.ts';
import { toJson, toMarkdown, toResults } from './report.ts';
import { startSubscriber } from './traffic/subscriber.ts';
import { createKeys, startTraffic } from './traffic/traffic.ts';

const MINUTES_MAX = 60;

const minutes = Number(process.argv[2] ?? 10);
const seed = Number(process.argv[3] ?? randomInt(2 ** 31));
const only = process.argv[4] ?? '';
const emulators = findEmulators();

if (!(minutes > 0 && minutes <= MINUTES_MAX) || !Number.isInteger(seed)) {
  print(`usage: npm run soak [minutes, at most ${MINUTES_MAX}] [seed] [fault]`);
  process.exitCode = 2;
} else if (!emulators.available) {
  print(`the soak needs the Firestore and Pub/Sub emulators: ${emulators.reason}`);
  process.exitCode = 2;
} else {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  process.exitCode = await soak();
}

async function soak(): Promise<number> {
  // The client of the subscriber looks for the metadata server of Google Cloud otherwise.
  process.env.METADATA_SERVER_DETECTION = 'none';
  print(`soak: ${minutes} minutes, seed ${seed}`);
  const random = createRandom(seed);
  const checks = createChecks((text) => print(`VIOLATION ${text}`));
  const journal = createJournal(checks);
  const providerLog = createProviderLog(journal);
  const keys = createKeys();
  const probeKey = randomBytes(24).toString('base64url');
  const providerKey = `sk-soak-${randomBytes(16).toString('hex')}`;
  const fleet = await startFleet({
    projectId: `soak-${randomBytes(4).toString('hex')}`,
    env: {
      GATEWAY_KEYS: JSON.stringify({
        keys: [
          ...keys.map(({ id, key, limits }) => ({ id, key, limits })),
          { id: 'probe', key: probeKey, limits: '100000/day' },
        ],
      }),
      // Shorter than the default of ten minutes, because a fault makes the model hang.
      GATEWAY_TURN_TIMEOUT_MS: '12000',
    },
    secrets: [providerKey, probeKey, ...keys.map(({ key }) => key)],
    checks,
    providerKey,
    probeKey,
  });
  const { projectId, pubsubHost, topic } = fleet;
  const subscriber = await startSubscriber({ projectId, emulatorHost: pubsubHost, topic });
  const observer = observeStore(fleet);
  const startMs = Date.now();
  const faults = startFaults({ fleet, random: random.fork(), runMs: minutes * 60_000, only, print });
  answerPrompts(fleet.provider, random.fork(), faults.providerFault, providerLog);
  const isOutage = (): boolean => faults.isOutage() || !observer.isStoreHealthy();
  const { isSandboxOutage } = faults;
  const outages = { isOutage, isSandboxOutage };
  const traffic = startTraffic({ keys, fleet, journal, providerLog, random: random.fork(), ...outages });
  try {
    await faults.finished;
    const endMs = Date.now();
    await traffic.stop();
    print(
      `audit of ${journal.turns.size} turns, ${journal.sessions.length} sessions, ${journal.deliveries.length} deliveries`,
    );
    const deps = { journal, fleet, clients: traffic.clients };
    await auditTurns(deps);
    await auditEvents(deps, subscriber);
    await auditLimits(deps, keys);
    await auditStore(deps, keys);
    const memory = auditMemory(journal, fleet, startMs, endMs);
    journal.count('seconds in which the store did not answer', Math.round(observer.slowMs / 1_000));
    await Promise.all([observer.close(), subscriber.close()]);
    await fleet.close();
    const { counts: errorsLogged, lines } = fleet.errorsLogged();
    // Printed only: the lines name paths, so the report leaves them out.
    if (checks.violations > 0) print(`errors logged:\n${lines.join('\n')}`);
    const results = toResults({
      seed,
      minutes,
      checks,
      faults: faults.done,
      counts: journal.counts,
      memory,
      errorsLogged,
    });
    const markdown = toMarkdown(results);
    writeFileSync(join(import.meta.dirname, 'RESULTS.json'), toJson(results));
    writeFileSync(join(import.meta.dirname, 'RESULTS.md'), markdown);
    print(`\n${markdown}`);
    return checks.violations === 0 ? 0 : 1;
  } catch (error) {
    print(`the soak could not be finished: ${error instanceof Error ? error.stack : String(error)}`);
    // The loops of the traffic would keep this process alive.
    void traffic.stop();
    await Promise.allSettled([observer.close(), subscriber.close(), fleet.close()]);
    return 1;
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
