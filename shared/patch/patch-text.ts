// Reads the text of a unified or git patch before any process starts: one section for each file that git will find in
// it. Refuses changes that the gateway does not allow, and changes that git would drop. Git reads the names
// (patch-reading.ts); where its count of the lines differs from this one, nothing is written.
import { patchIssue } from './patch-issue.ts';
import { type Cursor, isHunkHeader, type PatchSection, readSection } from './patch-section.ts';
import { refuseSkipped } from './patch-skipped.ts';

export const PATCH_BYTES_MAX = 1 << 20;
export const PATCH_FILES_MAX = 200;

/** Throws RpcError `invalid_params` with the line at fault, `patch_failed` for a change that git would drop. */
export function readPatch(patch: string): PatchSection[] {
  if (patch.includes('\0')) throw patchIssue('must not contain NUL');
  const lines = patch.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const cursor: Cursor = { lines, at: 0 };
  const sections: PatchSection[] = [];
  let endedAt = 0;
  while (cursor.at < lines.length) {
    const section = readSection(cursor);
    if (section !== undefined) {
      sections.push(section);
      endedAt = cursor.at;
      if (sections.length > PATCH_FILES_MAX) throw patchIssue(`must not touch more than ${PATCH_FILES_MAX} files`);
      continue;
    }
    if (isHunkHeader(lines[cursor.at] ?? '')) throw patchIssue('a hunk stands without a file', cursor.at);
    // Other lines come from mails, commit messages, `Index:`: git ignores them as well.
    refuseSkipped(lines, cursor.at, cursor.at === endedAt);
    cursor.at++;
  }
  if (sections.length === 0) throw patchIssue('has no changes: a unified or git patch is needed');
  return sections;
}
