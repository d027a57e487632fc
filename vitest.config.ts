import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/global-setup.ts'],
    pool: 'forks',
    // Half of the suite waits (leases, outages, restarts): a third worker uses that time on two cores.
    maxWorkers: 3,
    // Bounds against hanging, not expectations: a busy machine may take several times what an idle one does.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    expect: { poll: { timeout: 30_000 } },
  },
});
