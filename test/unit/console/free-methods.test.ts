// The console counts calls down before the gateway's response corrects the count, so it has to know which methods cost
// no call.
import { expect, it } from 'vitest';
import { FREE_METHODS } from '../../../functions/console/gateway/free-methods.ts';
import * as methods from '../../../shared/methods/index.ts';

it('the console counts no call for exactly the methods that cost none', () => {
  const free = Object.values(methods).filter(({ cost }) => cost === 'free');
  expect([...FREE_METHODS].sort()).toEqual(free.map(({ name }) => name).sort());
});
