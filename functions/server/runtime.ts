// V8 flags that a process that runs prompts sets after its start.
import { setFlagsFromString } from 'node:v8';

/**
 * V8 allocates in the old generation, at once, what used to live long when it looked. A gateway's streams are not like
 * that: those of one busy moment decide for all later ones, which then die in the old generation and keep alive what
 * they point to until its next full collection. Without it a prompt takes a sixth less processor time, and memory is
 * flat between collections (`npm run bench prompt`).
 *
 * Called when everything is loaded: V8 turns down code that was compiled under other flags, and with it what Node
 * carries ready-made of its own modules (set first, a start takes a third longer: `npm run bench cold-start`).
 */
export function tuneRuntime(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
