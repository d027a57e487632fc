// Selects the user under which bwrap runs, and the path at which it finds the workspaces. The user is that of the
// gateway; if that is root, the uid of the key, or root itself where the machine does not support that. Pure functions:
// no process is started and no file is read.

import type { SandboxSpec } from '../sandbox.ts';
import type { Workspace } from '../workspace/workspaces.ts';
import {
  type BubblewrapCommand,
  type CommandOptions,
  type Toolbox,
  toBubblewrapCommand,
} from './bubblewrap-command.ts';
import { changeUid, mountPaths, toMountedPath } from './own-uid.ts';

/** What the spawner starts. `input` and `files` are options of `Spawner.spawn`. */
export interface Launch extends BubblewrapCommand {
  readonly file: string;
  /** The uid that the spawner sets. Undefined: the process keeps the gateway's uid, or a command prefix changes it. */
  readonly uid: number | undefined;
}

/** `directory` contains the workspaces. */
export function toLaunch(
  tools: Toolbox,
  spec: SandboxSpec,
  workspace: Workspace,
  directory: string,
  options: Omit<CommandOptions, 'asRoot'>,
): Launch {
  const { uid } = workspace;
  if (!tools.ownUid || uid === undefined) {
    const command = toBubblewrapCommand(tools, spec, workspace, { ...options, asRoot: tools.isRoot });
    return { file: tools.bwrap, uid: undefined, ...command };
  }
  const mounted = (path: string): string => toMountedPath(path, directory);
  const { home, tmp, etc } = workspace;
  const mountedWorkspace = { home: mounted(home), tmp: mounted(tmp), etc: mounted(etc), uid };
  const { readOnly = [], writable, ...rest } = spec;
  const paths = [...readOnly, ...(writable === undefined ? [] : [writable])];
  const { prefix, places } = mountPaths(paths.map(({ from }) => from));
  const mountedPaths = paths.map(({ from, to }, index) => ({ from: places[index] ?? from, to }));
  const mountedSpec: SandboxSpec = {
    ...rest,
    readOnly: mountedPaths.slice(0, readOnly.length),
    ...(writable !== undefined && { writable: mountedPaths[readOnly.length] ?? writable }),
  };
  const command = toBubblewrapCommand(tools, mountedSpec, mountedWorkspace, { ...options, asRoot: false });
  if (paths.length === 0) return { file: tools.bwrap, uid, ...command };
  const [file = tools.bwrap, ...args] = [...prefix, ...changeUid(uid), tools.bwrap, ...command.args];
  return { ...command, file, args, uid: undefined };
}
