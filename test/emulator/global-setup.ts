// Runs once per run of the project `emulator`, and starts the emulators that its suites share. Each suite has a project
// id of its own, so that none sees the documents of another.
import type { TestProject } from 'vitest/node';
import { findEmulators, startFirestoreEmulator, startPubsubEmulator } from '../support/fixtures/database/emulators.ts';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const isMissing = findEmulators().reason !== '';
  const [firestore, pubsub] = isMissing ? [] : await Promise.all([startFirestoreEmulator(), startPubsubEmulator()]);
  project.provide('firestoreHost', firestore?.host ?? '');
  project.provide('pubsubHost', pubsub?.host ?? '');
  return async () => {
    await Promise.all([firestore?.stop(), pubsub?.stop()]);
  };
}
