// The disk is checked while commands run, also when the free space does not shrink.
import { describe, expect, it } from 'vitest';
import { DISK_LIMITS } from '../../../../shared/sandbox/limits.ts';
import type { Free } from '../../../../shared/sandbox/quota/free-space.ts';
import type { MeasuredWorkspace } from '../../../../shared/sandbox/quota/measured-workspace.ts';
import { createRunningChecks } from '../../../../shared/sandbox/quota/running-checks.ts';

const ENOUGH: Free = { bytes: 1e12, entries: 1e9, share: 1, isNear: false };
const WORKSPACE: MeasuredWorkspace = {
  watched: new Set(),
  isMeasuring: false,
  isLarge: false,
  changed() {},
  ended() {},
  measure: async () => {},
  access: () => 'write',
};

describe('while a command runs', () => {
  it('a workspace is measured again although the free space does not shrink, because others may delete as much', async () => {
    const thrice = Promise.withResolvers<void>();
    const measured: MeasuredWorkspace[] = [];
    const space = {
      read: async () => ENOUGH,
      recent: () => undefined,
      countPresent: async () => {},
      setSize() {},
      forget() {},
    };
    const checks = createRunningChecks({ ...DISK_LIMITS, checkMs: 1 }, space, async (workspace) => {
      if (measured.push(workspace) === 3) thrice.resolve();
    });
    checks.add(WORKSPACE);
    await thrice.promise;
    checks.remove(WORKSPACE);
    expect(measured).toEqual([WORKSPACE, WORKSPACE, WORKSPACE]);
  });
});
