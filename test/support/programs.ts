// `node test/support/programs.ts DIRECTORY` bundles the programs that suites start often, when a source has changed:
// from a bundle, a gateway starts in half of the CPU time. The suites of `npm start` itself, and benches, start the
// source.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Plugin } from 'esbuild';
import { z } from 'zod';

const ROOT = resolve(import.meta.dirname, '../..');
const FIXTURES = 'test/support/fixtures';
const PROGRAMS = [
  ...['functions/local/main.ts', 'functions/sandbox/main.ts', 'functions/cli/main.ts'],
  ...['local-main', 'sandbox-main', 'webhook-worker', 'limiter-worker'].map((name) => `${FIXTURES}/${name}.ts`),
  'test/support/fakes/mcp-server.ts',
];
const KEPT_MS = 3_600_000;

/** The time of the last change of each file of which the bundles were made, in milliseconds. */
const Inputs = z.record(z.string(), z.number());

/** Whether the bundles were made from the current sources. */
async function isCurrent(record: string): Promise<boolean> {
  const text = await readFile(record, 'utf8').catch(() => undefined);
  if (text === undefined) return false;
  const inputs = Inputs.parse(JSON.parse(text));
  // False for bundles that were copied from another checkout.
  if (!(import.meta.filename in inputs)) return false;
  const changed = Object.entries(inputs).map(async ([path, changedMs]) => (await changedAt(path)) !== changedMs);
  return !(await Promise.all(changed)).includes(true);
}

const changedAt = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.mtimeMs ?? 0;

/** Writes the bundles into `outdir`, where another run may use those of the same source at the same time. */
async function buildPrograms(outdir: string, record: string): Promise<void> {
  const startedMs = Date.now();
  const [{ build }, ours] = await Promise.all([import('esbuild'), import('../../functions/build/main.ts')]);
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
  const files = Object.keys(metafile.inputs).filter((name) => !/^\w{2,}:/.test(name));
  const paths = [...files.map((name) => join(ROOT, name)), import.meta.filename, join(ROOT, 'functions/build/main.ts')];
  const inputs = await Promise.all(paths.map(async (path) => [path, await changedAt(path)] as const));
  // A source that changes meanwhile may be in the bundles with its old text.
  if (inputs.some(([, changedMs]) => changedMs >= startedMs)) return;
  await replaceFile(record, Buffer.from(JSON.stringify(Object.fromEntries(inputs))));
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

/**
 * Replaces a file in one step, because a program that starts meanwhile must read a whole one. An equal file is not
 * written.
 */
async function replaceFile(path: string, contents: Uint8Array): Promise<void> {
  const before = await readFile(path).catch(() => undefined);
  if (before?.equals(contents) === true) return;
  await mkdir(dirname(path), { recursive: true });
  const fresh = `${path}.${randomUUID()}`;
  await writeFile(fresh, contents);
  await rename(fresh, path);
}

/** Removes the chunks of earlier sources, except recent ones, which programs of another run may still load. */
async function removeOld(directory: string, current: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (!current.has(path) && Date.now() - (await stat(path)).mtimeMs > KEPT_MS) await rm(path, { force: true });
  }
}

const outdir = resolve(process.argv[2] ?? '');
const record = join(outdir, 'inputs.json');
if (!(await isCurrent(record))) await buildPrograms(outdir, record);
