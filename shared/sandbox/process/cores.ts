// Prefixes of a command line that choose the cores of a program. Empty where there is no taskset(1), or only one core.
import { existsSync, readFileSync } from 'node:fs';

const TASKSET = '/usr/bin/taskset';

/**
 * All cores that this process may use but the first: a busy command holds a core for some milliseconds even at the
 * lowest priority, and with one core always free the gateway need not wait.
 */
export function keepCoreFree(): readonly string[] {
  const [first = '', ...rest] = allowedList().split(',');
  const [from, to] = first.split('-').map(Number);
  const cores = from !== undefined && to !== undefined ? [`${from + 1}-${to}`, ...rest] : rest;
  return onCores(cores.join(','));
}

/** All cores that this process may use: for a short program of the gateway's own, beside a busy one. */
export function useAllCores(): readonly string[] {
  return keepCoreFree().length === 0 ? [] : onCores(allowedList());
}

function onCores(list: string): readonly string[] {
  return list === '' || !existsSync(TASKSET) ? [] : [TASKSET, '-c', list];
}

/** Such as `0-3,8`. */
function allowedList(): string {
  try {
    return /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '';
  } catch {
    return '';
  }
}
