// `owner.erase`: erases everything that the gateway keeps of an owner.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { eraseOwner } from '../owners/erase-owner.ts';
import { defineMethod } from './define-method.ts';
import { checkOwner, OwnerId } from './schemas/owner-schemas.ts';

const AGAIN_MS = 1_000;

export const ownerErase = defineMethod({
  name: 'owner.erase',
  summary:
    'Ends all turns and processes of the caller, and erases its sessions, turns, logins, connections, usage and ' +
    'files; call it again until `done`; `owner` (another one) needs scope `admin`',
  scope: 'conversation',
  cost: 'work',
  runs: 'companion',
  params: z.strictObject({
    confirm: OwnerId.describe('The id of the owner to erase; `auth.limits` returns the caller’s (`key_id`)'),
    owner: OwnerId.optional().describe('Default: the caller'),
  }),
  result: z.object({
    owner: z.string(),
    done: z.boolean().describe('True: only the record of the limits is left, which has no content'),
    sessions: z.int().describe('Sessions that this call has erased, or begun to erase'),
    documents: z.int().describe('Other documents that this call has erased'),
    retry_after_ms: z.int().optional().describe('Present if it is not done: call again after this time'),
  }),
  errors: ['forbidden', 'invalid_params'],
  example: { params: { confirm: 'web' }, result: { owner: 'web', done: true, sessions: 3, documents: 12 } },
  async handle({ confirm, owner: given }, { services, caller, signal }) {
    const owner = checkOwner(caller, given);
    if (confirm !== owner) {
      const message = `must be the id of the owner to erase, "${owner}"`;
      throw new RpcError('invalid_params', { data: { issues: [{ path: 'confirm', message }] } });
    }
    const { isDone, sessions, documents } = await eraseOwner(services, owner, signal);
    return { owner, done: isDone, sessions, documents, ...(!isDone && { retry_after_ms: AGAIN_MS }) };
  },
});
