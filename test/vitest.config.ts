import { join, resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

const ROOT = resolve(import.meta.dirname, '..');

/** Suites below test/unit that start processes, sandboxes or servers: seconds each, where the others take none. */
const PROCESSES = [
  'test/unit/{codex-host,companion,deploy,forward,mcp,patch,sandbox,sandbox-service,terminals,store}/**/*.test.ts',
  'test/unit/engines/codex/**/*.test.ts',
  'test/unit/{conversations/turns/lease,auth/keys/secret-manager}*.test.ts',
];

/** Starts 900 short processes, and a worker that has run other files takes twice the CPU time to fork them. */
const MANY_PROCESSES = ['test/unit/patch/patch-corpus.test.ts'];

// Node keeps compiled modules here: a gateway that a suite starts takes half of the CPU time (0.6 s for 1.2 s).
process.env.NODE_COMPILE_CACHE ??= join(ROOT, 'node_modules/.cache/compiled');

export default defineConfig({
  root: ROOT,
  test: {
    globalSetup: ['test/global-setup.ts'],
    pool: 'forks',
    // One module graph per worker for all files of a project: suites keep no state in modules.
    isolate: false,
    // Two thirds of the time of the suites is waiting (leases, outages, restarts), so that six use two cores.
    maxWorkers: 6,
    // Bounds against hanging, not expectations: a busy machine may take several times what an idle one does.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    expect: { poll: { timeout: 30_000 } },
    // `npm run coverage`: of the suites of project unit, which run in this process; the others start the gateway.
    coverage: {
      include: ['shared/**/*.ts', 'functions/**/*.ts'],
      reporter: ['text-summary', 'html'],
      reportOnFailure: true,
    },
    // `--project NAME` selects one, so that a run imports and starts what it needs only.
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], exclude: PROCESSES } },
      {
        extends: true,
        test: {
          name: 'processes',
          include: [...PROCESSES, 'test/{e2e,fuzz,soak}/**/*.test.ts'],
          exclude: MANY_PROCESSES,
          globalSetup: ['test/programs-setup.ts'],
        },
      },
      { extends: true, test: { name: 'corpus', include: MANY_PROCESSES, isolate: true } },
      {
        extends: true,
        test: {
          name: 'emulator',
          include: ['test/emulator/**/*.test.ts'],
          // Starts the emulators, which takes seconds of two processors.
          globalSetup: ['test/programs-setup.ts', 'test/emulator/global-setup.ts'],
        },
      },
    ],
  },
});
