// Part of the program of the helper process (spawn-helper.ts): passes on the listening socket that a process inside
// created (listener.ts). It is source text there, so it must use nothing from outside its body.
import type { ChildProcess } from 'node:child_process';
import type { SendReport } from './helper-processes.ts';

/** Takes nothing but one listening socket from the channel of the process, which is closed then. */
export function helperListener(send: SendReport): (id: number, child: ChildProcess) => void {
  const { Server } = process.getBuiltinModule('node:net');
  return (id, child) => {
    let isOver = false;
    const over = (server?: import('node:net').Server): void => {
      if (isOver) return void server?.close();
      isOver = true;
      send({ id, listener: server !== undefined }, server, () => {
        server?.close();
        if (child.connected) child.disconnect();
      });
    };
    child.once('message', (_, handle) => over(handle instanceof Server ? handle : undefined));
    child.once('disconnect', () => over());
  };
}
