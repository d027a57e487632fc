// owner.erase and owner.export pass their cases on the real Firestore emulator, and an erasure leaves nothing of
// prompts that run on another process at the same time.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { expect, inject, it } from 'vitest';
import { toLimitRef } from '../../shared/rate-limit/windows/limit-document.ts';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import { exportCases } from '../cases/export.cases.ts';
import { ownerCases } from '../cases/owner.cases.ts';
import { startModelProvider } from '../support/fakes/model-provider/model-provider.ts';
import { follow, rpc, until, untilServing } from '../support/fixtures/clients/turn-client.ts';
import { readEmulator } from '../support/fixtures/database/emulator-documents.ts';
import { startLocalGateway } from '../support/fixtures/gateway/local-gateway.ts';
import { createFixture } from '../support/fixtures/turns/conversations.ts';
import { describeWith } from '../support/requirements.ts';

/** Every stored document but the locks of contended transactions, which are no owner's. */
async function readAll(emulatorHost: string, project: string): Promise<ReadonlyMap<string, string>> {
  const documents = await readEmulator(emulatorHost, project);
  const owned = documents.filter(({ path }) => !path.startsWith('locks/'));
  return new Map(owned.map(({ path, fields }) => [path, JSON.stringify(fields)]));
}

const freshProject = (): string => `owner-${randomBytes(4).toString('hex')}`;

describeWith('emulators', 'Firestore', () => {
  ownerCases('the Firestore emulator', async () => {
    const [projectId, emulatorHost] = [freshProject(), inject('firestoreHost')];
    return {
      openStore: (clock) => createFirestoreStore({ projectId, emulatorHost, clock }),
      rows: () => readAll(emulatorHost, projectId),
    };
  });

  exportCases('the Firestore emulator', () => {
    const [projectId, emulatorHost] = [freshProject(), inject('firestoreHost')];
    return createFixture({ openStore: (clock) => createFirestoreStore({ projectId, emulatorHost, clock }) });
  });

  it('an erasure on one instance leaves nothing of prompts that run, wait and arrive on another', async () => {
    const [project, emulatorHost] = [freshProject(), inject('firestoreHost')];
    const provider = await startModelProvider();
    const gateways = await Promise.all(
      ['a', 'b'].map(() =>
        startLocalGateway({
          env: {
            FIRESTORE_EMULATOR_HOST: emulatorHost,
            GOOGLE_CLOUD_PROJECT: project,
            METADATA_SERVER_DETECTION: 'none',
            GATEWAY_API_KEY: 'dev-key',
            GATEWAY_BUS: 'local',
            GATEWAY_LIMITS: '1000000/minute',
            ANTHROPIC_API_KEY: 'sk-test',
            ANTHROPIC_BASE_URL: provider.url,
            MODEL: 'anthropic/claude-sonnet-4-5',
          },
        }),
      ),
    );
    try {
      const [a = '', b = ''] = gateways.map(({ url }) => url);
      await Promise.all([a, b].map(untilServing));
      const prompt = '[[chunks 500 every 20]]';
      const running = ['s0', 's1', 's2'].map((session_id) =>
        follow(a, 'conversation.prompt', { prompt, session_id, idempotency_key: session_id }),
      );
      await Promise.all(running.map((reader) => reader.until(60)));
      const waiting = rpc(a, 'conversation.prompt', { prompt, session_id: 's0', on_busy: 'queue' });
      await until(
        () => rpc(b, 'conversation.status', { session_id: 's0' }),
        ({ result }) => result?.queued === 1,
      );
      const erase = () => rpc(b, 'owner.erase', { confirm: 'default' });
      // New sessions while the erasure runs: the next call erases them too.
      const [first] = await Promise.all([
        erase(),
        ...['n0', 'n1', 'n2'].map((session_id) => rpc(a, 'conversation.prompt', { prompt: 'hello', session_id })),
      ]);
      expect(first.error).toBeUndefined();
      await until(erase, ({ result }) => result?.done === true);
      for (const reader of running) expect((await reader.answer)?.error).toMatchObject({ code: 499 });
      expect((await waiting).error).toMatchObject({ code: 499 });
      const rows = await readAll(emulatorHost, project);
      expect([...rows.keys()]).toEqual([`limits/${toLimitRef('default').id}`]);
    } finally {
      for (const { child } of gateways) {
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      }
      await provider.close();
    }
  }, 60_000);
});
