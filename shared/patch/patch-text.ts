// Parses the text of a unified or git patch before any process starts: one section for each file that git will find in
// it. Rejects changes that the gateway does not allow, and changes that git would skip. Git parses the file names
// (patch-reading.ts); if its line counts differ from those of this parser, nothing is written.
import { patchIssue } from './patch-issue.ts';
import { type Cursor, isHunkHeader, type PatchSection, readSection } from './patch-section.ts';
import { checkNotSkipped } from './patch-skipped.ts';

export const PATCH_BYTES_MAX = 1 << 20;
const PATCH_FILES_MAX = 200;

/** Throws RpcError `invalid_params` with the invalid line, `patch_failed` for a change that git would skip. */
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
    if (isHunkHeader(lines[cursor.at] ?? '')) throw patchIssue('a hunk has no file header', cursor.at);
    // Other lines come from e-mails, commit messages or `Index:`; git ignores them as well.
    checkNotSkipped(lines, cursor.at, cursor.at === endedAt);
    cursor.at++;
  }
  if (sections.length === 0) throw patchIssue('contains no changes: send a unified or git patch');
  return sections;
}
