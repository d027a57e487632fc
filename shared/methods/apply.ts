// `apply`: applies a patch to a directory of the caller's workspace, completely or not at all.
import { z } from 'zod';
import { toCancelled } from '../errors.ts';
import { applyPatch } from '../patch/patch.ts';
import { PATCH_BYTES_MAX } from '../patch/patch-text.ts';
import { auditCommand } from '../sandbox/commands/audit.ts';
import { defineMethod } from './define-method.ts';
import { Directory } from './schemas/schemas.ts';

const PATCH =
  'diff --git a/file.txt b/file.txt\nindex 1234567..abcdefg 100644\n--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 ' +
  '@@\n-old content\n+new content';

export const apply = defineMethod({
  name: 'apply',
  summary: 'Applies a unified or git patch in the caller’s sandbox: all of its files or none',
  scope: 'workspace',
  cost: 'work',
  runs: 'companion',
  needs: 'sandbox',
  params: z.strictObject({
    patch: z
      .string()
      .min(1)
      .refine((text) => Buffer.byteLength(text) <= PATCH_BYTES_MAX, `must not be longer than ${PATCH_BYTES_MAX} bytes`)
      .describe('A patch as for `git apply`, text and binary, names with or without a/ and b/; at most 200 files'),
    repo_path: Directory.describe('A directory of the workspace; not necessarily a git repository'),
    dry_run: z.boolean().default(false),
  }),
  result: z.object({
    applied: z.boolean(),
    dry_run: z.boolean(),
    files: z.array(
      z.object({
        path: z.string(),
        change: z.enum(['added', 'modified', 'deleted', 'renamed', 'copied']),
        additions: z.int(),
        deletions: z.int(),
        old_path: z.string().optional(),
      }),
    ),
  }),
  errors: ['patch_failed', 'sandbox_unavailable', 'unavailable', 'cancelled'],
  example: {
    params: { patch: PATCH, repo_path: '/tmp/repo', dry_run: false },
    result: {
      applied: true,
      dry_run: false,
      files: [{ path: 'file.txt', change: 'modified', additions: 1, deletions: 1 }],
    },
  },
  async handle(params, context) {
    const { services, caller, signal } = context;
    const startedMs = performance.now();
    let exitCode: number | undefined;
    try {
      const files = await applyPatch(services.commands, {
        keyId: caller.keyId,
        patch: params.patch,
        directory: params.repo_path,
        dryRun: params.dry_run,
        signal,
      });
      exitCode = 0;
      return {
        applied: !params.dry_run,
        dry_run: params.dry_run,
        files: files.map(({ path, change, additions, deletions, oldPath }) => ({
          path,
          change,
          additions,
          deletions,
          ...(oldPath !== undefined && { old_path: oldPath }),
        })),
      };
    } catch (error) {
      throw toCancelled(error, signal);
    } finally {
      auditCommand(services.log, {
        requestId: context.requestId,
        keyId: caller.keyId,
        method: 'apply',
        argv: ['git', 'apply', params.repo_path],
        exitCode,
        durationMs: performance.now() - startedMs,
      });
    }
  },
});
