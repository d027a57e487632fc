// `node test/support/builds/programs.ts DIRECTORY` bundles the programs that suites start often, when a source has
// changed: from a bundle, a gateway starts in half of the CPU time. The suites of `npm start` itself, and benches,
// start the source.
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Plugin } from 'esbuild';
import { isCurrent, removeOld, replaceFile, writeRecord } from './build-record.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const FIXTURES = 'test/support/fixtures';
const PROGRAMS = [
  ...['functions/local/main.ts', 'functions/sandbox/main.ts', 'functions/cli/main.ts'],
  ...['gateway/local-main', 'sandbox/sandbox-main', 'webhooks/webhook-worker', 'limiter/limiter-worker'].map(
    (name) => `${FIXTURES}/${name}.ts`,
  ),
  'test/support/fakes/mcp-server.ts',
];

/** Writes the bundles into `outdir`, where another run may use those of the same source at the same time. */
async function buildPrograms(outdir: string, record: string): Promise<void> {
  const startedMs = Date.now();
  const [{ build }, ours] = await Promise.all([import('esbuild'), import('../../../functions/build/main.ts')]);
  const { outputFiles, metafile } = await build({
    ...ours.bundling,
    entryPoints: PROGRAMS,
    outbase: ROOT,
    outdir,
    // The compiler is needed only for the console's page.
    external: [...ours.NATIVE, 'esbuild'],
    plugins: [ownPaths, ours.builtinsByRequire, ours.namedDynamicImports],
    metafile: true,
    write: false,
  });
  await Promise.all(outputFiles.map(({ path, contents }) => replaceFile(path, contents)));
  await removeOld(join(outdir, 'chunks'), new Set(outputFiles.map(({ path }) => path)));
  const inputs = Object.keys(metafile.inputs);
  await writeRecord(record, [...inputs, import.meta.filename, join(ROOT, 'functions/build/main.ts')], startedMs);
}

/** A module in a bundle finds its files in the folder of its source. */
const ownPaths: Plugin = {
  name: 'own-paths',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      if (path.includes('/node_modules/')) return undefined;
      const own = { dirname: dirname(path), filename: path, url: pathToFileURL(path).href };
      const source = await readFile(path, 'utf8');
      const contents = source.replace(/\bimport\.meta\.(dirname|filename|url)\b/g, (_, name: keyof typeof own) =>
        JSON.stringify(own[name]),
      );
      return { contents, loader: 'ts' };
    });
  },
};

const outdir = resolve(process.argv[2] ?? '');
const record = join(outdir, 'inputs.json');
if (!(await isCurrent(record, import.meta.filename))) await buildPrograms(outdir, record);
