// Command prefixes that select the processor cores of a program. Empty if taskset(1) is not installed or there is only
// one core.
import { existsSync, readFileSync } from 'node:fs';

const TASKSET = '/usr/bin/taskset';

/**
 * Selects all cores that this process may use except the first. A busy command occupies a core for some milliseconds
 * even at the lowest priority; with one core always free, the gateway does not wait.
 */
export function keepCoreFree(): readonly string[] {
  const [first = '', ...rest] = allowedList().split(',');
  const [from, to] = first.split('-').map(Number);
  const cores = from !== undefined && to !== undefined ? [`${from + 1}-${to}`, ...rest] : rest;
  return onCores(cores.join(','));
}

/**
 * Selects all cores that this process may use, for a short program of the gateway that runs while a command is busy.
 */
export function useAllCores(): readonly string[] {
  return keepCoreFree().length === 0 ? [] : onCores(allowedList());
}

function onCores(list: string): readonly string[] {
  return list === '' || !existsSync(TASKSET) ? [] : [TASKSET, '-c', list];
}

/** The list of cores in the format `0-3,8`. */
function allowedList(): string {
  try {
    return /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '';
  } catch {
    return '';
  }
}
