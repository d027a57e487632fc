// Builds what is deployed: one ESM bundle for all Google Cloud Functions, split into chunks so that a function loads
// only what it uses, and one for the companion; each with a package.json of its own. The output is reproducible. The
// functions' bundle must not contain native addons, Codex, or code of the companion or the local server.
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';
import { CODEX_VERSION } from '../../shared/engines/codex/server/binary.ts';
import { makeDirectory } from '../../shared/make-directory.ts';
import { bundleConsole } from '../console/bundle.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** Modules that are not allowed in the functions' bundle: processes, native code, the other deployables. */
const FORBIDDEN = [/@openai\/codex/, /node-pty/, /\.node$/, /^functions\/(companion|local|console)\//, /^test\//];

/**
 * CommonJS dependencies expect these names. The Google SDKs are bundled too: their load time is the same, but a
 * deployment then runs the versions of the lockfile, not those that a registry resolves at that time, and reads 10
 * files instead of a thousand.
 */
const BANNER = `import { createRequire as gatewayCreateRequire } from 'node:module';
const require = gatewayCreateRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;`;

/**
 * Bundles the functions into `outdir` (emptied first); returns esbuild's metafile. Throws if a forbidden module is
 * bundled.
 */
export async function buildFunctions(outdir = path.join(ROOT, 'dist/functions')): Promise<Metafile> {
  const metafile = await bundle(outdir, { index: 'functions/index.ts' }, ['@google-cloud/functions-framework']);
  const forbidden = Object.keys(metafile.inputs).filter((file) => FORBIDDEN.some((pattern) => pattern.test(file)));
  if (forbidden.length > 0) throw new Error(`modules not allowed in the functions bundle: ${forbidden.join(', ')}`);
  const pinned = await pinnedDependencies(['@google-cloud/functions-framework']);
  await writeManifest(outdir, 'functions', {
    main: 'index.js',
    scripts: { start: 'functions-framework' },
    dependencies: pinned,
  });
  return metafile;
}

/**
 * Packages that cannot be bundled into the companion. They are installed in its image, at the versions of package.json.
 */
const COMPANION_EXTERNAL = ['@lydell/node-pty', '@openai/codex', 'bufferutil', 'utf-8-validate'];

/** Builds the companion: one program, `main.js`, and the files of its container image. */
export async function buildCompanion(outdir = path.join(ROOT, 'dist/companion')): Promise<Metafile> {
  const metafile = await bundle(outdir, { main: 'functions/companion/main.ts' }, COMPANION_EXTERNAL);
  const pinned = await pinnedDependencies(COMPANION_EXTERNAL);
  await writeManifest(outdir, 'companion', {
    scripts: { start: 'node main.js' },
    dependencies: { ...pinned, '@openai/codex': CODEX_VERSION },
  });
  await copyFile(path.join(ROOT, 'functions/companion/Containerfile'), path.join(outdir, 'Dockerfile'));
  return metafile;
}

async function bundle(outdir: string, entryPoints: Record<string, string>, external: string[]): Promise<Metafile> {
  await rm(outdir, { recursive: true, force: true });
  const { version } = await ownManifest();
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints,
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    chunkNames: 'chunks/[name]-[hash]',
    banner: { js: BANNER },
    // Names are not minified, so that stacks in the log are readable.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'linked',
    external,
    define: { GATEWAY_VERSION: JSON.stringify(version) },
    plugins: [builtinsByRequire, namedDynamicImports],
    metafile: true,
    logLevel: 'warning',
  });
  await makeDirectory(outdir);
  return metafile;
}

/**
 * Builds the console for Firebase Hosting. `socketUrl`: URL of the companion's WebSocket, because Hosting does not
 * forward `/ws`.
 */
export async function buildConsole(outdir = path.join(ROOT, 'dist/console'), socketUrl?: string): Promise<void> {
  const files = await bundleConsole(socketUrl === undefined ? {} : { socketUrl });
  await rm(outdir, { recursive: true, force: true });
  await makeDirectory(outdir);
  for (const [name, { body }] of files) await writeFile(path.join(outdir, name), body);
  const bytes = [...files.values()].reduce((sum, { body }) => sum + body.length, 0);
  process.stdout.write(`console: ${files.size} files, ${(bytes / 1e6).toFixed(1)} MB\n`);
}

/**
 * Node's own modules, as `require` gives them. An `import` of one reads every property it exports, lazy ones included:
 * `node:http` then loads undici for its `WebSocket` (17 ms of a start of 110; `npm run bench cold-start`).
 */
const builtinsByRequire: Plugin = {
  name: 'builtins-by-require',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[\w:/]+$/ }, ({ kind, path: name }) =>
      kind === 'import-statement' && isBuiltin(name) ? { path: name, namespace: 'builtin' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path: name }) => ({
      contents: `module.exports = require('${name}');`,
    }));
  },
};

/**
 * `const { X } = await import('a-commonjs-package')`: node finds the names, esbuild's chunk for such a package exports
 * only `default`. This gives the chunk exactly the names node gives, so that the same line means the same in both.
 */
const namedDynamicImports: Plugin = {
  name: 'named-dynamic-imports',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[@\w]/ }, async ({ kind, path: name, importer }) => {
      if (kind !== 'dynamic-import' || importer.includes('node_modules') || name.startsWith('node:')) return undefined;
      return 'module.exports' in (await import(name)) ? { path: name, namespace: 'commonjs' } : undefined;
    });
    onLoad({ filter: /.*/, namespace: 'commonjs' }, async ({ path: name }) => {
      const names = Object.keys(await import(name)).filter((key) => /^[a-z_$][\w$]*$/i.test(key) && key !== 'default');
      const contents = `const all = require('${name}');\nexport default all;\nexport const { ${names.join(', ')} } = all;\n`;
      return { contents, resolveDir: ROOT };
    });
  },
};

/** The package.json of a deployment, from which its dependencies are installed. */
async function writeManifest(outdir: string, name: string, fields: object): Promise<void> {
  const own = await ownManifest();
  const deployed = {
    name: `${own.name}-${name}`,
    version: own.version,
    private: true,
    type: 'module',
    engines: { node: '24' },
    ...fields,
  };
  await writeFile(path.join(outdir, 'package.json'), `${JSON.stringify(deployed, null, 2)}\n`);
}

/** The given packages that are in package.json, with their exact versions. */
async function pinnedDependencies(names: readonly string[]): Promise<Record<string, string>> {
  const { dependencies, devDependencies } = await ownManifest();
  const known = { ...devDependencies, ...dependencies };
  return Object.fromEntries(
    names.flatMap((name) => {
      const version = known[name];
      if (version === undefined) return [];
      if (!/^\d/.test(version)) throw new Error(`${name} must be pinned exactly`);
      return [[name, version]];
    }),
  );
}

async function ownManifest(): Promise<Manifest> {
  return readManifest(JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8')));
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

function readManifest(json: unknown): Manifest {
  const isManifest = (value: unknown): value is Manifest =>
    typeof value === 'object' &&
    value !== null &&
    ['name', 'version', 'dependencies', 'devDependencies'].every((field) => field in value);
  if (!isManifest(json)) throw new Error('package.json lacks name, version or dependencies');
  return json;
}

if (import.meta.main) {
  // Directories of the functions, the companion and the console: with one only the functions, with none all under
  // dist/. After them the console's WebSocket, `wss://...`, where it is not on the console's own origin.
  const [, , functions, companion, page, socketUrl] = process.argv;
  report('functions', await buildFunctions(functions));
  if (functions === undefined || companion !== undefined) report('companion', await buildCompanion(companion));
  if (functions === undefined || page !== undefined) await buildConsole(page, socketUrl);
  // The npm package of the client is not deployed, so it is built only together with all others.
  if (functions === undefined) report('client', await (await import('../cli/build.ts')).buildClient());
}

function report(name: string, { outputs }: Metafile): void {
  const total = Object.values(outputs).reduce((sum, { bytes }) => sum + bytes, 0);
  process.stdout.write(`${name}: ${Object.keys(outputs).length} files, ${(total / 1e6).toFixed(1)} MB\n`);
}
