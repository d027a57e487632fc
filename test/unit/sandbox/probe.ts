// A script that inspects its sandbox from inside, and the output it must print, in each way to start it.
import { expect } from 'vitest';

/** System calls by number, and the error of each. */
export const CALLS = {
  x64: { keyctl: 250, add_key: 248, request_key: 249, unshare: 272, clone3: 435, ptrace: 101, mount: 165, fsopen: 430 },
  arm64: { keyctl: 219, add_key: 217, request_key: 218, unshare: 97, clone3: 435, ptrace: 117, mount: 40, fsopen: 430 },
}[process.arch === 'arm64' ? 'arm64' : 'x64'];
const ARGUMENTS: Readonly<Record<string, string>> = {
  // KEYCTL_GET_KEYRING_ID of the session keyring, created if missing; CLONE_NEWUSER; PTRACE_TRACEME.
  keyctl: '0, -3, 1',
  add_key: '"user", "canary", "x", 1, -3',
  request_key: '"user", "canary", 0, -3',
  unshare: '0x10000000',
  clone3: '0, 0',
  ptrace: '0, 0, 0, 0',
  mount: '"none", "/tmp", "tmpfs", 0, 0',
  fsopen: '"tmpfs", 0',
};
const PERL = Object.entries(CALLS)
  .map(
    ([name, number]) =>
      `@a = (${ARGUMENTS[name]}); $r = syscall(${number}, @a); print "${name}=", ($r < 0 ? $!+0 : "done"), " ";`,
  )
  .join(' ');

/** `ls` itself has one more descriptor open, of the directory it lists. */
export const PROBE = `
  echo "descriptors=$(ls /proc/self/fd | tr '\\n' ' ')"
  echo 0 2>/dev/null > /proc/self/oom_score_adj; echo "score=$(cat /proc/self/oom_score_adj)"
  echo "calls=$(perl -e '${PERL.replaceAll("'", `'\\''`)}')"
  echo "userns=$(unshare --user true 2>&1 | grep -c .)"
  echo "keys=$(cat /proc/keys)"
  echo "host=$(cat /proc/*/cmdline | tr '\\0' ' ' | grep -c '[w]orkspaces')"
  echo "end"`;
export const EXPECTED: readonly unknown[] = [
  'descriptors=0 1 2 3 ',
  'score=1000',
  'calls=keyctl=1 add_key=1 request_key=1 unshare=1 clone3=38 ptrace=1 mount=1 fsopen=1 ',
  'userns=1',
  expect.stringMatching(/^keys=([^\n]*_ses: empty)?$/),
  'host=0',
  'end',
];
