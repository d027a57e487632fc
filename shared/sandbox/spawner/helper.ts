// Starts the helper process of the spawner: its command line, cores, keyring and session.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { keepCoreFree } from './cores.ts';
import { HELPER_PROGRAM } from './spawn-helper.ts';

/** Small heaps: the less memory the helper has, the faster it starts processes (see spawner.ts). */
const FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=64', '--v8-pool-size=1'];

/** `prefix` is put before its command line. */
export function startHelper(prefix: readonly string[]): ChildProcess {
  const [file = process.execPath, ...args] = [
    ...keepCoreFree(),
    ...withNewKeyring(),
    ...prefix,
    process.execPath,
    ...FLAGS,
  ];
  return spawn(file, [...args, '-e', HELPER_PROGRAM], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: {},
    cwd: '/',
    // Creates a session: signals of the gateway's terminal do not reach it, and schedulers that divide time among
    // sessions count it separately from the gateway.
    detached: true,
  });
}

/**
 * Command prefix that gives the program a new, empty session keyring instead of the one inherited from the process that
 * started the gateway (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING). Where perl(1) is missing, the system call filter still
 * refuses access to keyrings, but /proc/keys shows the names of keys.
 */
function withNewKeyring(): readonly string[] {
  const number = process.arch === 'arm64' ? 219 : 250;
  const perl = '/usr/bin/perl';
  return existsSync(perl) ? [perl, '-e', `syscall(${number}, 1, 0); exec { $ARGV[0] } @ARGV`, '--'] : [];
}
