// `node test/support/programs.ts DIRECTORY` bundles the programs that suites start often: from a bundle, a gateway
// starts in half of the CPU time. The suites of `npm start` itself, and benches, start the source.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { builtinsByRequire, bundling, NATIVE, namedDynamicImports } from '../../functions/build/main.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const FIXTURES = 'test/support/fixtures';
const PROGRAMS = [
  ...['functions/local/main.ts', 'functions/sandbox/main.ts', 'functions/cli/main.ts'],
  ...['local-main', 'sandbox-main', 'webhook-worker', 'limiter-worker'].map((name) => `${FIXTURES}/${name}.ts`),
  'test/support/fakes/mcp-server.ts',
];
const KEPT_MS = 3_600_000;

/** Writes the bundles into `outdir`, where another run may use those of the same source at the same time. */
async function buildPrograms(outdir: string): Promise<void> {
  const { outputFiles } = await build({
    ...bundling,
    entryPoints: PROGRAMS,
    outbase: ROOT,
    outdir,
    // The compiler is needed only for the console's page.
    external: [...NATIVE, 'esbuild'],
    plugins: [ownPaths, builtinsByRequire, namedDynamicImports],
    write: false,
  });
  await Promise.all(outputFiles.map(({ path, contents }) => replaceFile(path, contents)));
  await removeOld(join(outdir, 'chunks'), new Set(outputFiles.map(({ path }) => path)));
}

/** A module finds its files beside its source. */
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

/** At once, so that a program that starts meanwhile reads a whole file; not at all when it is the same. */
async function replaceFile(path: string, contents: Uint8Array): Promise<void> {
  const before = await readFile(path).catch(() => undefined);
  if (before?.equals(contents) === true) return;
  await mkdir(dirname(path), { recursive: true });
  const fresh = `${path}.${randomUUID()}`;
  await writeFile(fresh, contents);
  await rename(fresh, path);
}

/** Chunks of earlier sources, but for those that another run may have begun with. */
async function removeOld(directory: string, current: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (!current.has(path) && Date.now() - (await stat(path)).mtimeMs > KEPT_MS) await rm(path, { force: true });
  }
}

await buildPrograms(resolve(process.argv[2] ?? ''));
