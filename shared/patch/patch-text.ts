// Reads the text of a unified or git patch before anything is started: one section for each file that git will find in
// it. Refuses what a gateway does not let a patch do, and what git would leave out. Names are git's part
// (patch-reading.ts); where its count of the lines differs from this one, nothing is written.
import { patchIssue } from './patch-issue.ts';
import { type Cursor, isHunkHeader, type PatchSection, readSection } from './patch-section.ts';
import { refuseSkipped } from './patch-skipped.ts';

export const PATCH_BYTES_MAX = 1 << 20;
export const PATCH_FILES_MAX = 200;

/** Throws RpcError `invalid_params` with the line at fault, `patch_failed` for a change that git would leave out. */
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
    // Other lines are those of mails, commit messages, `Index:`: git ignores them as well.
    refuseSkipped(lines, cursor.at, cursor.at === endedAt);
    cursor.at++;
  }
  if (sections.length === 0) throw patchIssue('has no changes: a unified or git patch is needed');
  return sections;
}
