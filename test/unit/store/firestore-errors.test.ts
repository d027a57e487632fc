// How errors of Firestore's queries reach a caller, by the texts that Firestore sends with FAILED_PRECONDITION.
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { toReadError } from '../../../shared/store/firestore/errors.ts';

const refused = (message: string): Error => Object.assign(new Error(`9 FAILED_PRECONDITION: ${message}`), { code: 9 });
const SEE = 'See its status here: https://console.firebase.google.com/v1/r/project/p/firestore/indexes';

it.each([
  `The query requires an index. That index is currently building and cannot be used yet. ${SEE}`,
  `The query requires a COLLECTION_ASC index for collection conversations and field x. That index is not ready yet. ${SEE}`,
])('a query whose index is being built can be sent again: %s', (message) => {
  expect(toReadError(refused(message))).toMatchObject({ reason: 'unavailable' });
});

it('a query without an index is a defect, which no retry mends', () => {
  const error = refused('The query requires an index. You can create it here: https://console.firebase.google.com/x');
  expect(toReadError(error)).toBe(error);
  expect(toReadError(error)).not.toBeInstanceOf(RpcError);
});
