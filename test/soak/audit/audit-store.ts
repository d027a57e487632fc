// Audits what must not be stored: scans every document for messages of sessions that were erased after they had
// expired, or with their owner, then erases those owners once more and scans for any trace of them.
import { toLimitRef } from '../../../shared/rate-limit/windows/limit-document.ts';
import { documentsIn } from '../../support/fixtures/database/emulator-documents.ts';
import { eraseOwner } from '../traffic/owner-scenarios.ts';
import type { Key } from '../traffic/traffic.ts';
import type { AuditDeps } from './audit-request.ts';

export async function auditStore({ journal, fleet, clients }: AuditDeps, keys: readonly Key[]): Promise<void> {
  const { checks } = journal;
  const documents = () => documentsIn(fleet.firestoreHost, fleet.projectId);

  /** The prompts of gone sessions that are in the store, each with the document. */
  const findGone = async (): Promise<Map<string, string>> => {
    const found = new Map<string, string>();
    for await (const { path, fields } of documents()) {
      for (const [nonce] of JSON.stringify(fields).matchAll(/key\d+n\d+/g)) {
        if (journal.prompts.get(nonce)?.session.gone !== undefined) found.set(nonce, path);
      }
    }
    return found;
  };
  const left = await findGone();
  for (const { prompt, session } of journal.prompts.values()) {
    if (session.gone === undefined) continue;
    const path = left.get(prompt.nonce);
    checks.check(session.gone, path === undefined, () => `${prompt.nonce} of ${session.id} is in ${path}`);
  }

  const erased = keys.filter(({ role }) => role === 'erase').map(({ id }) => id);
  for (const id of erased) {
    const client = clients.get(id);
    const isErased = client !== undefined && (await eraseOwner(client, []));
    checks.check('erased', isErased, () => `${id} is not erased after the run`);
  }
  const traces = erased.map((id) => new RegExp(`${id}(?!\\d)|${toLimitRef(id).id}`));
  const allowed = new Set(erased.map((id) => `limits/${toLimitRef(id).id}`));
  for await (const { path, fields } of documents()) {
    // The locks of contended transactions are no owner's; the name of one contains that of its document.
    if (path.startsWith('locks/')) continue;
    const isTrace = traces.some((trace) => trace.test(`${path} ${JSON.stringify(fields)}`));
    checks.check('erased', !isTrace || allowed.has(path), () => `${path}: ${JSON.stringify(fields).slice(0, 300)}`);
  }
}
