// Part of the program of the helper process (spawn-helper.ts): passes the listening socket of a sandbox (listener.ts)
// to the gateway. It is used as source text, so it may use nothing from outside its body.
import type { ChildProcess } from 'node:child_process';
import type { SendReport } from './helper-processes.ts';

/** Accepts only one listening socket from the channel of the process, and closes the channel then. */
export function helperListener(send: SendReport): (id: number, child: ChildProcess) => void {
  const { Server } = process.getBuiltinModule('node:net');
  return (id, child) => {
    let isDone = false;
    const finish = (server?: import('node:net').Server): void => {
      if (isDone) return void server?.close();
      isDone = true;
      send({ id, listener: server !== undefined }, server, () => {
        server?.close();
        if (child.connected) child.disconnect();
      });
    };
    child.once('message', (_, handle) => finish(handle instanceof Server ? handle : undefined));
    child.once('disconnect', () => finish());
  };
}
