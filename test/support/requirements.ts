// Checks whether this machine has the programs that some suites need beyond Node and npm. Suites use `describeWith`;
// the global setup prints what is missing.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, inject, it } from 'vitest';
import { findCodex, INSTALL_HINT } from '../../shared/codex-host/binary.ts';
import { createMemoryGroups } from '../../shared/sandbox/quota/memory-groups.ts';
import { findEmulators } from './fixtures/database/emulators.ts';

const NAMES = {
  emulators: 'Firestore and Pub/Sub emulators',
  chromium: 'Chromium',
  bubblewrap: 'bubblewrap',
  codex: 'Codex and bubblewrap',
  strace: 'Codex, bubblewrap and strace',
  shell: 'bash, curl, jq and openssl',
  python: 'Python 3 with requests and websockets',
  memory: 'a memory control group to divide (root or delegated; bubblewrap, Python 3)',
  patches: 'git, GNU diff, Subversion and Mercurial',
  networks: 'network namespaces (root, iproute2, bubblewrap)',
  mounts: 'disks of their own to fill (root, unshare, bubblewrap)',
} as const;

export type Requirement = keyof typeof NAMES;

/** Empty when present, else how to get it. */
export type Missing = Readonly<Record<Requirement, string>>;

declare module 'vitest' {
  export interface ProvidedContext {
    missing: Missing;
    /** `host:port` of the run's shared emulators; empty when they are missing. */
    firestoreHost: string;
    pubsubHost: string;
  }
}

/** Looks at the machine; some tens of milliseconds. */
export function findMissing(): Missing {
  const bubblewrap = bubblewrapWorks() ? '' : 'install bubblewrap, with user namespaces allowed';
  const codex = bubblewrap || (findCodex(undefined, import.meta.url) === undefined ? INSTALL_HINT : '');
  return {
    emulators: findEmulators().reason,
    chromium: findChromium() === undefined ? 'install Chromium or set CHROMIUM' : '',
    bubblewrap,
    codex,
    strace: codex || (pathCandidates('strace').some(isExecutable) ? '' : 'install strace'),
    shell: ['bash', 'curl', 'jq', 'openssl'].every((name) => pathCandidates(name).some(isExecutable))
      ? ''
      : 'install them',
    patches: ['git', 'diff', 'svn', 'svnadmin', 'hg'].every((name) => pathCandidates(name).some(isExecutable))
      ? ''
      : 'install diffutils, subversion and mercurial',
    mounts: bubblewrap || (canMount() ? '' : 'run as root, with CAP_SYS_ADMIN'),
    networks: bubblewrap || whyNoNetworks(),
    memory: bubblewrap || (canDivideMemory() ? '' : 'run where /sys/fs/cgroup may be written to'),
    python: findPython() === undefined ? 'install Debian’s python3-requests and python3-websockets' : '',
  };
}

/** One line about all that is missing; undefined when nothing is. */
export function describeMissing(missing: Missing): string | undefined {
  const lacking = (Object.keys(NAMES) as Requirement[]).filter((requirement) => missing[requirement] !== '');
  const parts = lacking.map((requirement) => `${NAMES[requirement]} (${missing[requirement]})`);
  return parts.length === 0 ? undefined : `not run here: suites that need ${parts.join(', ')}`;
}

/** Rights that a container may not give, even to its root. CI requires only what can be installed for them. */
const OF_THE_MACHINE: ReadonlySet<Requirement> = new Set(['mounts', 'memory', 'networks']);

/** A `describe` that runs where the requirement is met; where not, it is skipped, and with CI=true it fails. */
export function describeWith(requirement: Requirement, name: string, suite: () => void): void {
  const missing = inject('missing');
  const rule = ruleFor(requirement, missing, process.env.CI);
  if (rule === 'run') describe(name, suite);
  else if (rule === 'skip') describe.skip(name, suite);
  else {
    describe(name, () => {
      it(`needs ${NAMES[requirement]}`, () => {
        throw new Error(`CI=true requires ${NAMES[requirement]}: ${missing[requirement]}`);
      });
    });
  }
}

/** What becomes of a suite on a machine that lacks `missing`; `ci` is the variable CI. */
export function ruleFor(requirement: Requirement, missing: Missing, ci: string | undefined): 'run' | 'skip' | 'fail' {
  if (missing[requirement] === '') return 'run';
  const isInstallable = !OF_THE_MACHINE.has(requirement) || missing[requirement].startsWith('install ');
  return ci === 'true' && isInstallable ? 'fail' : 'skip';
}

/** Path of a Python 3 that has the libraries of the reference's clients: Debian's, else the one on PATH. */
export function findPython(): string | undefined {
  return ['/usr/bin/python3', ...pathCandidates('python3')]
    .filter(isExecutable)
    .find((path) => spawnSync(path, ['-c', 'import requests, websockets'], { timeout: 10_000 }).status === 0);
}

/**
 * Path of a Chromium: CHROMIUM, else by its usual names on PATH. Without a window's surface it takes a third of the
 * CPU.
 */
export function findChromium(): string | undefined {
  const named = process.env.CHROMIUM;
  if (named !== undefined) return isExecutable(named) ? named : undefined;
  const names = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  return names.flatMap((name) => pathCandidates(name)).find(isExecutable);
}

function bubblewrapWorks(): boolean {
  if (!pathCandidates('bwrap').some(isExecutable)) return false;
  const args = ['--unshare-all', '--die-with-parent', '--ro-bind', '/', '/', 'true'];
  return spawnSync('bwrap', args, { timeout: 5_000, stdio: 'ignore' }).status === 0;
}

/** A mount namespace of its own with a tmpfs in it; nothing of that is seen outside. */
function canMount(): boolean {
  const args = ['--mount', '/bin/sh', '-c', 'mount -t tmpfs tmpfs /mnt'];
  return process.getuid?.() === 0 && spawnSync('unshare', args, { timeout: 5_000, stdio: 'ignore' }).status === 0;
}

/** Creates a network namespace as the tests do, with a name, and removes it. */
function whyNoNetworks(): string {
  if (!pathCandidates('ip').some(isExecutable)) return 'install iproute2';
  const name = `gateway-test-${process.pid}`;
  const ip = (action: string) => spawnSync('ip', ['netns', action, name], { timeout: 5_000, stdio: 'ignore' }).status;
  const isPossible = process.getuid?.() === 0 && ip('add') === 0 && ip('del') === 0;
  return isPossible ? '' : 'run as root, with CAP_NET_ADMIN';
}

/** By making a group and removing it. */
function canDivideMemory(): boolean {
  const groups = createMemoryGroups(() => {});
  const isMissing = groups.missing !== undefined;
  void groups.close();
  return !isMissing && isExecutable('/usr/bin/python3');
}

function pathCandidates(name: string): string[] {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
