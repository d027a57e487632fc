// Part of the program of the helper process (spawn-helper.ts): starts one process with its descriptors. It is used as
// source text, so it may use nothing from outside its body.
import type { SpawnRequest } from './spawn-messages.ts';

/** Throws if the process cannot be started. */
export type Launch = (request: SpawnRequest) => import('node:child_process').ChildProcess;

export function helperLauncher(): Launch {
  const { spawn } = process.getBuiltinModule('node:child_process');
  const fs = process.getBuiltinModule('node:fs');

  const scoreFile = '/proc/self/oom_score_adj';
  const ownScore = fs.readFileSync(scoreFile, 'latin1');
  const scoreFd = fs.openSync(scoreFile, 'r+');
  const setScore = (score: string): void => {
    try {
      fs.writeSync(scoreFd, score, 0);
    } catch {
      // The score is below the minimum that the parent of the gateway has set.
    }
  };

  /**
   * Makes the out-of-memory killer select sandbox processes before all others. A process inherits the score of its
   * parent, and a process without CAP_SYS_RESOURCE cannot lower a score that one with it has set. So the helper raises
   * its own score, only while the process starts.
   */
  const withHighScore = <R>(start: () => R): R => {
    setScore('1000');
    try {
      return start();
    } finally {
      setScore(ownScore);
    }
  };

  /** The terminal must belong to the user that runs in it, and must not become the helper's controlling terminal. */
  const openTty = (path: string, uid: number | undefined): number => {
    const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_NOCTTY);
    if (uid !== undefined) fs.fchownSync(fd, uid, uid);
    return fd;
  };

  return ({ file, args, hasStdin, tty, files, hasListener, uid }) => {
    const toClose: number[] = [];
    const closeLater = (fd: number): number => {
      toClose.push(fd);
      return fd;
    };
    try {
      const terminal = tty === undefined ? undefined : closeLater(openTty(tty, uid));
      const streams =
        terminal === undefined
          ? ([hasStdin ? 'pipe' : 'ignore', 'pipe', 'pipe'] as const)
          : [terminal, terminal, terminal];
      const opened = files.map((path) => closeLater(fs.openSync(path, 'r')));
      const channel = hasListener ? (['ipc'] as const) : [];
      const stdio = [...streams, 'pipe' as const, 'pipe' as const, ...opened, ...channel];
      const user = uid === undefined ? {} : { uid, gid: uid };
      return withHighScore(() => spawn(file, args, { stdio, env: {}, cwd: '/', ...user }));
    } finally {
      for (const fd of toClose) fs.closeSync(fd);
    }
  };
}
