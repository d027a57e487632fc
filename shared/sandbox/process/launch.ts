// Selects the user that starts bwrap, and the path at which it sees the workspaces: the gateway's user; root, which
// changes to the key's uid first; or, where that is impossible, root itself. Pure: it starts no process and reads no
// file.
import {
  type BubblewrapCommand,
  type CommandOptions,
  type Toolbox,
  toBubblewrapCommand,
} from '../bubblewrap-command.ts';
import type { SandboxSpec } from '../sandbox.ts';
import type { Workspace } from '../workspaces.ts';
import { showPaths, takeUid, toShown } from './own-uid.ts';

/** For the spawner; `input` and `files` are its options. */
export interface Launch extends BubblewrapCommand {
  readonly file: string;
  /** Set by the spawner; undefined: the gateway's own uid, or changed on the way. */
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
  const shown = (path: string): string => toShown(path, directory);
  const seen = { home: shown(workspace.home), tmp: shown(workspace.tmp), etc: shown(workspace.etc), uid };
  const { readOnly = [], writable, ...rest } = spec;
  const paths = [...readOnly, ...(writable === undefined ? [] : [writable])];
  const { before, places } = showPaths(paths.map(({ from }) => from));
  const moved = paths.map(({ from, to }, index) => ({ from: places[index] ?? from, to }));
  const whole: SandboxSpec = {
    ...rest,
    readOnly: moved.slice(0, readOnly.length),
    ...(writable !== undefined && { writable: moved[readOnly.length] ?? writable }),
  };
  const command = toBubblewrapCommand(tools, whole, seen, { ...options, asRoot: false });
  if (paths.length === 0) return { file: tools.bwrap, uid, ...command };
  const [file = tools.bwrap, ...args] = [...before, ...takeUid(uid), tools.bwrap, ...command.args];
  return { ...command, file, args, uid: undefined };
}
