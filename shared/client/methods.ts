// The types of every method, taken from the registry's own schemas: types only, so that no server code is bundled. The
// package carries a generated file of the same shape in its place (functions/cli/build.ts).
import type { z } from 'zod';
import type * as definitions from '../methods/index.ts';

type Definition = (typeof definitions)[keyof typeof definitions];

/** Params and result of every method by its wire name. */
export type Methods = {
  readonly [D in Definition as D['name']]: {
    readonly params: z.input<D['params']>;
    readonly result: z.output<D['result']>;
  };
};
