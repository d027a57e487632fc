// Rejects file names in a patch that lead out of the repository or into its `.git`.
import { patchIssue } from './patch-issue.ts';

const PATH_BYTES_MAX = 1024;

/** Throws RpcError `invalid_params` for a name that is refused. */
export function checkPath(path: string): void {
  if (path.includes('\ufffd')) throw patchIssue('has a name that is not UTF-8');
  if (path.startsWith('/')) throw patchIssue('must not contain absolute paths');
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) throw patchIssue('has a path that is too long');
  if (/\p{Cc}/u.test(path)) throw patchIssue('has a path with control characters');
  for (const component of path.split('/')) {
    if (component === '' || component === '.') throw patchIssue('has a path with an empty component');
    if (component === '..') throw patchIssue('must not contain paths with ".."');
    // Names that some file systems treat as `.git` as well.
    if (/^(\.git|git~\d+)[ .]*$/i.test(component.replace(/\p{Cf}/gu, '')) || /^\.git[ .]*:/i.test(component)) {
      throw patchIssue('must not touch .git');
    }
  }
}
