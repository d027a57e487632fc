// Finds bubblewrap and proves, by running it, which form of the sandbox this machine gives. Says in words what is missing when none does.
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { type Toolbox, toBubblewrapArgs } from './bubblewrap-command.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import { showWorkspaces, takeUid, toShown } from './own-uid.ts';
import type { Availability } from './sandbox.ts';
import { UID_INSIDE, type Workspaces } from './workspaces.ts';

export type SelfTest = { readonly ok: true; readonly tools: Toolbox } | (Availability & { readonly ok: false });

/** open(2): not in node's constants. */
const O_CLOEXEC = 0o2000000;
const PROBE_MS = 10_000;
const TOOLS = ['/bin/sh', '/usr/bin/env'];
const ROOT_TOOLS = ['/usr/bin/setpriv', '/usr/bin/unshare'];
const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'];

/** What must be so inside: our uid or the key's, no capability, no network device but lo, no sight of other processes. */
const PROBE =
  'id -u; grep CapEff /proc/self/status; ls /proc | grep -c "^[0-9]*$"; grep -c : /proc/net/dev; touch "$HOME/.probe"';

export interface SelfTestOptions {
  /** Where the workspaces are. */
  readonly directory: string;
  readonly path: string;
  readonly bundled: boolean;
  readonly isRoot: boolean;
}

/** Looks and tries; some tens of milliseconds. Never throws. */
export async function selfTest(
  workspaces: Workspaces,
  { directory, path, bundled, isRoot }: SelfTestOptions,
): Promise<SelfTest> {
  if (process.platform !== 'linux') {
    return {
      ok: false,
      reason: 'sandboxes need Linux',
      hint: 'run the gateway in a Linux container or virtual machine',
    };
  }
  for (const tool of isRoot ? [...TOOLS, ...ROOT_TOOLS] : TOOLS) {
    if (await isExecutable(tool)) continue;
    return { ok: false, reason: `${tool} is missing`, hint: 'install the packages util-linux and coreutils' };
  }
  const inheritedFds = await findInherited();
  if (inheritedFds.length > 0 && !(await isExecutable('/bin/bash'))) {
    const reason = `descriptors ${inheritedFds.join(', ')} were inherited from the process that started the gateway`;
    return { ok: false, reason, hint: 'install bash, which can close them, or start the gateway without them' };
  }
  const found = await findBubblewrap(path, bundled);
  if (found.length === 0) {
    return { ok: false, reason: 'bubblewrap is not installed', hint: 'install it: apt-get install bubblewrap' };
  }
  const system = await describeSystem();
  let reason = '';
  for (const bwrap of found) {
    for (const strong of [true, false]) {
      const tools = {
        bwrap,
        isRoot,
        ownUid: false,
        userNamespace: !isRoot || strong,
        disableUserNamespaces: strong,
        inheritedFds,
        system,
      };
      const failure = await probe(tools, workspaces, directory);
      if (failure === undefined) return { ok: true, tools: await withOwnUid(tools, workspaces, directory) };
      reason = failure;
    }
  }
  return {
    ok: false,
    reason: `bubblewrap cannot make a sandbox here: ${reason}`,
    hint: 'allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; on Cloud Run the second generation environment; in a container a seccomp profile that allows them)',
  };
}

/** Whether root can start bwrap under a key's uid, too; with or without user namespaces inside. */
async function withOwnUid(tools: Toolbox, workspaces: Workspaces, directory: string): Promise<Toolbox> {
  if (!tools.isRoot) return tools;
  for (const disableUserNamespaces of [true, false]) {
    const changed = { ...tools, ownUid: true, disableUserNamespaces };
    if ((await probe(changed, workspaces, directory)) === undefined) return changed;
  }
  return tools;
}

async function probe(tools: Toolbox, workspaces: Workspaces, directory: string): Promise<string | undefined> {
  try {
    const workspace = await workspaces.open('\0self-test');
    const spec = { keyId: '', argv: ['/bin/sh', '-c', PROBE] as const };
    const isShown = tools.ownUid && workspace.uid !== undefined;
    const args = toBubblewrapArgs(tools, spec, isShown ? toShown(workspace, directory) : workspace, {
      limits: DEFAULT_LIMITS,
      asRoot: tools.isRoot && !isShown,
      newSession: true,
      closesFds: true,
    });
    const before = isShown ? [...showWorkspaces(directory), ...takeUid(workspace.uid)] : [];
    const [file = tools.bwrap, ...rest] = [...before, tools.bwrap, ...args];
    const [uid, capabilities, processes, devices] = (await output(file, rest)).trim().split('\n');
    const expected = isShown || tools.userNamespace ? UID_INSIDE : workspace.uid;
    if (uid !== String(expected)) return `it runs as uid ${uid}`;
    if (!/\s0+$/.test(capabilities ?? '')) return 'it keeps capabilities';
    if (!(Number(processes) <= 6)) return `it sees ${processes} processes`;
    if (Number(devices) !== 1) return 'it sees network devices';
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function output(file: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      file,
      args,
      { timeout: PROBE_MS, killSignal: 'SIGKILL', env: {}, maxBuffer: 1 << 16 },
      (error, out, err) => {
        if (error === null) resolve(out);
        else reject(new Error(err.trim().split('\n').at(-1) || error.message.split('\n', 1)[0]));
      },
    );
  });
}

/** The system's own, then the one that comes with Codex. */
async function findBubblewrap(path: string, withBundled: boolean): Promise<string[]> {
  const directories = path.split(delimiter).filter((directory) => isAbsolute(directory));
  const candidates = directories.map((directory) => join(directory, 'bwrap'));
  const bundled = withBundled ? codexBubblewrap() : undefined;
  if (bundled !== undefined) candidates.push(bundled);
  const usable = await Promise.all(candidates.map(isExecutable));
  const system = candidates.filter((_, index) => usable[index]);
  return [...new Set(system)].slice(0, 3);
}

function codexBubblewrap(): string | undefined {
  const [cpu, triple] =
    process.arch === 'arm64' ? ['arm64', 'aarch64-unknown-linux-musl'] : ['x64', 'x86_64-unknown-linux-musl'];
  try {
    const codex = createRequire(import.meta.url).resolve('@openai/codex/package.json');
    const platform = createRequire(codex).resolve(`@openai/codex-linux-${cpu}/package.json`);
    return join(dirname(platform), 'vendor', triple, 'codex-resources', 'bwrap');
  } catch {
    return undefined;
  }
}

/** /usr as it is; /bin and the like are links into it on most machines and directories on others. */
async function describeSystem(): Promise<string[]> {
  const parts = await Promise.all(
    SYSTEM.map(async (path) => {
      const stats = await lstat(path).catch(() => undefined);
      if (stats?.isSymbolicLink()) return ['--symlink', await readlink(path), path];
      return stats?.isDirectory() ? ['--ro-bind', path, path] : [];
    }),
  );
  return parts.flat();
}

/** Node opens all of its own close-on-exec. */
async function findInherited(): Promise<number[]> {
  const names = await readdir('/proc/self/fdinfo');
  const found = await Promise.all(
    names.map(async (name) => {
      const info = await readFile(`/proc/self/fdinfo/${name}`, 'utf8').catch(() => '');
      const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? '2000000', 8);
      return Number(name) > 2 && (flags & O_CLOEXEC) === 0 ? [Number(name)] : [];
    }),
  );
  return found.flat();
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
