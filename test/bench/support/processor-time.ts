// Reads the processor time of a process that a bench has started.
import type { ChildProcess } from 'node:child_process';

/** Writes its processor time, in microseconds, at each SIGUSR2. */
const PRELOAD = `process.on('SIGUSR2', () => {
  const { user, system } = process.cpuUsage();
  process.stdout.write('cpu ' + (user + system) + '\\n');
})`;

/** Variables of a process whose processor time is measured. */
export const MEASURED = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(PRELOAD)}` };

/** Processor time that a process with the variables MEASURED has used so far, in microseconds. */
export function processorUs(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    const onData = (text: Buffer): void => {
      const found = /^cpu (\d+)$/m.exec(text.toString());
      if (found === null) return;
      child.stdout?.off('data', onData);
      resolve(Number(found[1]));
    };
    child.stdout?.on('data', onData);
    child.kill('SIGUSR2');
  });
}
