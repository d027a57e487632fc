// `owner.export`: everything that the gateway keeps of an owner, page by page.
import { z } from 'zod';
import { createSlices } from '../async.ts';
import { exportOwner } from '../owners/export-owner.ts';
import { createPage } from '../rpc/page.ts';
import { defineMethod } from './define-method.ts';
import { checkOwner, OwnerId } from './schemas/owner-schemas.ts';

const CURSOR_MAX = 1_024;

export const ownerExport = defineMethod({
  name: 'owner.export',
  summary:
    'Returns all stored data of the caller except secrets, as NDJSON pages of at most 1 MiB; `owner` (another one) ' +
    'needs scope `admin`',
  scope: 'conversation',
  cost: 'read',
  isBulky: true,
  params: z.strictObject({
    owner: OwnerId.optional().describe('Default: the caller'),
    cursor: z.string().min(1).max(CURSOR_MAX).optional().describe('`next_cursor` of the previous page'),
    limit: z.int().min(1).max(5_000).default(1_000).describe('Most lines of a page'),
  }),
  result: z.object({
    owner: z.string(),
    ndjson: z
      .string()
      .describe(
        'One JSON object with a `type` per line; all pages one after the other are one NDJSON file. An object of ' +
          'more than 128 Ki characters is split: the `json` of its lines, put together, is the object',
      ),
    lines: z.int(),
    next_cursor: z.string().optional().describe('Present if there are more'),
  }),
  errors: ['forbidden'],
  example: {
    params: { limit: 1 },
    result: {
      owner: 'web',
      ndjson: '{"type":"session","session_id":"my-session-123","title":"Adding numbers","message_count":2}\n',
      lines: 1,
      next_cursor: 'WyJjb252ZXJzYXRpb25zIiwiMjAyNiIsImlkIixbInNlc3Npb24iLDAsMF1d',
    },
  },
  async handle({ owner: given, cursor, limit }, { services, caller, answerBytesMax }) {
    const owner = checkOwner(caller, given);
    // Counted as in the response, in which the lines are a JSON string.
    const page = createPage<string>();
    let last: string | undefined;
    let isMore = false;
    const slice = createSlices();
    for await (const { line, cursor: next } of exportOwner(services, owner, cursor)) {
      await slice();
      isMore = page.items.length === limit || !page.add(`${line}\n`);
      if (isMore) break;
      last = next;
    }
    const nextCursor = isMore ? last : undefined;
    page.check(answerBytesMax, nextCursor);
    return {
      owner,
      ndjson: page.items.join(''),
      lines: page.items.length,
      ...(nextCursor !== undefined && { next_cursor: nextCursor }),
    };
  },
});
