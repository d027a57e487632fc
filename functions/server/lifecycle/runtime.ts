// V8 flags of processes that run prompts, set after the start.
import { setFlagsFromString } from 'node:v8';

/**
 * Turns off allocation site pretenuring. With it, V8 allocates objects directly in the old generation if earlier
 * objects of the same code lived long. In a gateway, the objects of one busy moment would decide that for all later
 * ones, which live shortly but stay in memory, with all that they reference, until the next full collection. Without
 * pretenuring, a prompt takes a sixth less processor time and memory use is stable (`npm run bench prompt`). Call it
 * after all modules are loaded: V8 rejects code that was compiled under other flags, including the code cache of Node's
 * own modules. Set at the start, the flag makes the start a third slower (`npm run bench cold-start`).
 */
export function tuneRuntime(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
