// The helper process of the spawner: its command line and its place on the machine.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { keepCoreFree } from './cores.ts';
import { HELPER_PROGRAM } from './spawn-helper.ts';

/** Small young generations: the small size of the helper makes a start cheap. */
const FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=64', '--v8-pool-size=1'];

/** `before` is a prefix of its command line. */
export function startHelper(before: readonly string[]): ChildProcess {
  const [file = process.execPath, ...args] = [
    ...keepCoreFree(),
    ...newKeyring(),
    ...before,
    process.execPath,
    ...FLAGS,
  ];
  return spawn(file, [...args, '-e', HELPER_PROGRAM], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: {},
    cwd: '/',
    // A session of its own: signals of a terminal do not reach it, and schedulers that share by session count it
    // separately from the gateway.
    detached: true,
  });
}

/**
 * Command prefix that gives the program an empty session keyring of its own in place of the keyring inherited from the
 * process that started the gateway (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING). Without it the filter of the sandbox still
 * refuses all access to keyrings; only /proc/keys would show the names of keys.
 */
function newKeyring(): readonly string[] {
  const number = process.arch === 'arm64' ? 219 : 250;
  const perl = '/usr/bin/perl';
  return existsSync(perl) ? [perl, '-e', `syscall(${number}, 1, 0); exec { $ARGV[0] } @ARGV`, '--'] : [];
}
