// Builds the deployables as ESM bundles, each with its own package.json: one bundle for all Google Cloud Functions,
// split into chunks so that a function loads only what it uses; one for the companion; one for the sandbox service. The
// output is reproducible. The functions' bundle must not contain native addons, Codex or modules of the companion and
// the local server. The bundle of the sandbox service must not contain modules that handle credentials or documents.
import { copyFile, rm, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Metafile, type Plugin } from 'esbuild';
import { CODEX_VERSION } from '../../shared/codex-host/binary.ts';
import { makeDirectory } from '../../shared/make-directory.ts';
import { bundleConsole } from '../console/bundle.ts';
import { readLockfiles, writeLockfile } from './lockfile.ts';
import { ownManifest, pinnedDependencies, writeManifest } from './manifest.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** Modules that the functions must not contain: Codex, native code, other deployables. */
const FORBIDDEN = [
  /@openai\/codex/,
  /node-pty/,
  /\.node$/,
  /^functions\/(companion|sandbox|local|console)\//,
  /^test\//,
];

/**
 * Names that CommonJS dependencies expect. The Google SDKs are bundled too: their load time is the same, but a
 * deployment then runs the versions of the lockfile, not those that a registry resolves at that time, and it loads 10
 * files instead of a thousand.
 */
const BANNER = `import { createRequire as gatewayCreateRequire } from 'node:module';
const require = gatewayCreateRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;`;

/**
 * Bundles the functions into `outdir` (emptied first); returns esbuild's metafile. Throws if a forbidden module is
 * bundled.
 */
export async function buildFunctions(outdir = path.join(ROOT, 'dist/functions')): Promise<Metafile> {
  const entries = {
    index: 'functions/index.ts',
    'fill-compile-cache': 'functions/server/lifecycle/fill-compile-cache.ts',
  };
  const metafile = await bundle(outdir, entries, ['@google-cloud/functions-framework']);
  throwIfBundled(metafile, FORBIDDEN, 'a function');
  const pinned = await pinnedDependencies(['@google-cloud/functions-framework']);
  const manifest = await writeManifest(outdir, 'functions', {
    main: 'index.js',
    // The buildpack runs `gcp-build` after it has installed the dependencies.
    scripts: { start: 'functions-framework', 'gcp-build': 'node fill-compile-cache.js' },
    dependencies: pinned,
  });
  await writeLockfile(outdir, { ...manifest, dependencies: pinned }, await readLockfiles());
  return metafile;
}

/**
 * Packages that cannot be bundled. The first two start processes, and are installed only in the image of the sandbox
 * service. The last two are optional dependencies of `ws` and are not installed.
 */
export const NATIVE = ['@lydell/node-pty', '@openai/codex', 'bufferutil', 'utf-8-validate'];

/** Bundles the companion: one program, `main.js`, which runs without installing dependencies. */
export async function buildCompanion(outdir = path.join(ROOT, 'dist/companion')): Promise<Metafile> {
  const metafile = await bundle(outdir, { main: 'functions/companion/main.ts' }, NATIVE);
  await writeManifest(outdir, 'companion', { scripts: { start: 'node main.js' } });
  return metafile;
}

/**
 * Modules that the sandbox service must not contain, because untrusted programs run there: those that handle
 * credentials or documents of callers.
 */
const FORBIDDEN_IN_SANDBOX = [
  /^shared\/(store|rate-limit|conversations|engines|webhooks|methods|forward|client|proto)\//,
  /^shared\/(auth\/(?!oidc\.ts)|services\.ts|create-services\.ts|gateway\.ts|config\/config\.ts)/,
  /^functions\/(?!sandbox\/|server\/)/,
  /@google-cloud|google-gax|@ai-sdk/,
];

/** Bundles the sandbox service: one program, `main.js`, and the files from which its container image is built. */
export async function buildSandbox(outdir = path.join(ROOT, 'dist/sandbox')): Promise<Metafile> {
  const metafile = await bundle(outdir, { main: 'functions/sandbox/main.ts' }, NATIVE);
  throwIfBundled(metafile, FORBIDDEN_IN_SANDBOX, 'the sandbox service');
  const dependencies = { ...(await pinnedDependencies(NATIVE)), '@openai/codex': CODEX_VERSION };
  const manifest = await writeManifest(outdir, 'sandbox', { scripts: { start: 'node main.js' }, dependencies });
  await writeLockfile(outdir, { ...manifest, dependencies }, await readLockfiles());
  await copyFile(path.join(ROOT, 'functions/sandbox/Containerfile'), path.join(outdir, 'Dockerfile'));
  return metafile;
}

function throwIfBundled({ inputs }: Metafile, patterns: readonly RegExp[], place: string): void {
  const forbidden = Object.keys(inputs).filter((file) => patterns.some((pattern) => pattern.test(file)));
  if (forbidden.length > 0) throw new Error(`${place} must not contain: ${forbidden.join(', ')}`);
}

/** How every program is bundled, in tests too. */
export const bundling = {
  absWorkingDir: ROOT,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  chunkNames: 'chunks/[name]-[hash]',
  banner: { js: BANNER },
  logLevel: 'warning',
} as const;

async function bundle(outdir: string, entryPoints: Record<string, string>, external: string[]): Promise<Metafile> {
  await rm(outdir, { recursive: true, force: true });
  const { version } = await ownManifest();
  const { metafile } = await build({
    ...bundling,
    entryPoints,
    outdir,
    // Names are not minified, so that stacks in the log are readable.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'linked',
    external,
    define: { GATEWAY_VERSION: JSON.stringify(version) },
    plugins: [builtinsByRequire, namedDynamicImports, englishOnly, grpcWithoutDefinitions],
    metafile: true,
  });
  await makeDirectory(outdir);
  return metafile;
}

/**
 * Builds the console for Firebase Hosting. `socketUrl`: URL of the companion's WebSocket, because Hosting does not
 * forward `/ws`.
 */
async function buildConsole(outdir = path.join(ROOT, 'dist/console'), socketUrl?: string): Promise<void> {
  const files = await bundleConsole(socketUrl === undefined ? {} : { socketUrl });
  await rm(outdir, { recursive: true, force: true });
  await makeDirectory(outdir);
  for (const [name, { body }] of files) await writeFile(path.join(outdir, name), body);
  const bytes = [...files.values()].reduce((sum, { body }) => sum + body.length, 0);
  process.stdout.write(`console: ${files.size} files, ${(bytes / 1e6).toFixed(1)} MB\n`);
}

/**
 * Loads Node's own modules by `require`. An `import` reads every exported property, including lazy ones: for
 * `node:http`, it loads undici for the property `WebSocket` (17 ms of a start of 110 ms; `npm run bench cold-start`).
 */
export const builtinsByRequire: Plugin = {
  name: 'builtins-by-require',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[\w:/]+$/ }, ({ kind, path: name }) =>
      kind === 'import-statement' && isBuiltin(name) ? { path: name, namespace: 'builtin' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, async ({ path: name }) => {
      const properties = Object.keys(await import(name)).filter((key) => key !== 'default');
      // Pure, so that the bundle has only the properties that are imported.
      const lines = properties.map((key) => `export const ${key} = /* @__PURE__ */ (() => builtinModule.${key})();`);
      return {
        contents: `const builtinModule = require('${name}');
export default builtinModule;
${lines.join('\n')}
`,
      };
    });
  },
};

/**
 * Makes `const { X } = await import('a-commonjs-package')` work in a bundle. Node detects the names that such a package
 * exports, but esbuild's chunk exports only `default`. This plugin adds the same names as Node, so that the line works
 * from source and in the bundle, also in the code of packages.
 */
export const namedDynamicImports: Plugin = {
  name: 'named-dynamic-imports',
  setup({ onResolve, onLoad, resolve }) {
    onResolve({ filter: /^[@\w]/ }, async ({ kind, path: name, importer, resolveDir, pluginData }) => {
      if (kind !== 'dynamic-import' || pluginData === RESOLVED || isBuiltin(name)) return undefined;
      const {
        path: file,
        external,
        errors,
      } = await resolve(name, { kind, importer, resolveDir, pluginData: RESOLVED });
      if (external || errors.length > 0) return undefined;
      // Relative, so that the names of the chunks do not depend on where the repository is.
      const found = { path: path.relative(ROOT, file), namespace: 'commonjs' };
      return 'module.exports' in (await importFile(found.path)) ? found : undefined;
    });
    onLoad({ filter: /.*/, namespace: 'commonjs' }, async ({ path: file }) => {
      const names = Object.keys(await importFile(file)).filter(
        (key) => /^[a-z_$][\w$]*$/i.test(key) && key !== 'default',
      );
      const contents = `const all = require(${JSON.stringify(`./${file}`)});
export default all;
export const { ${names.join(', ')} } = all;
`;
      return { contents, resolveDir: ROOT };
    });
  },
};

/**
 * Leaves out zod's error messages in 50 languages, half of its code, which are part of the object `z`. Only English is
 * used, and every instance would parse the others before its first answer.
 */
const englishOnly: Plugin = {
  name: 'english-only',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: `export { default as en } from './en.js';`,
    }));
  },
};

/**
 * Leaves the parser of protobuf definitions out of gRPC, a third of its code. Only its servers load it, for services
 * that report the state of channels.
 */
const grpcWithoutDefinitions: Plugin = {
  name: 'grpc-without-definitions',
  setup({ onResolve }) {
    onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ importer, path: name }) =>
      /[\\/]grpc-js[\\/]build[\\/]src[\\/](channelz|orca)\.js$/.test(importer)
        ? { path: name, external: true }
        : undefined,
    );
  },
};

/** Marks a resolution that the plugin itself starts. */
const RESOLVED = Symbol('resolved');

/** `file`: relative to the repository. */
function importFile(file: string): Promise<object> {
  return import(pathToFileURL(path.join(ROOT, file)).href);
}

if (process.argv[1] === import.meta.filename) {
  // Arguments: the output directories of the functions, the companion and the console, then the URL of the console's
  // WebSocket (`wss://...`) if it is not on the console's origin. Without arguments, everything is built below dist/;
  // with a directory for each part, only those parts.
  const [, , functions, companion, page, socketUrl] = process.argv;
  report('functions', await buildFunctions(functions));
  if (functions === undefined || companion !== undefined) report('companion', await buildCompanion(companion));
  if (functions === undefined) report('sandbox', await buildSandbox());
  if (functions === undefined || page !== undefined) await buildConsole(page, socketUrl);
}

function report(name: string, { outputs }: Metafile): void {
  const total = Object.values(outputs).reduce((sum, { bytes }) => sum + bytes, 0);
  process.stdout.write(`${name}: ${Object.keys(outputs).length} files, ${(total / 1e6).toFixed(1)} MB\n`);
}
