// Builds what Google Cloud Functions deploys: one ESM bundle, split into chunks so that a function loads only what it uses, and a
// package.json of its own. Refuses native addons, Codex and everything of the companion or the local server. Same input, same bytes.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';

const ROOT = path.resolve(import.meta.dirname, '..');

/** What must never reach a function: processes, native code, the other deployables. */
const FORBIDDEN = [/@openai\/codex/, /node-pty/, /\.node$/, /^functions\/(ws|local|console)\//, /^test\//];

/**
 * CommonJS dependencies expect these names. The Google SDKs are bundled too: loading them costs the same either way, but a deployment
 * then runs exactly what the lockfile pins, not what a registry resolves on the day, and reads 10 files instead of a thousand.
 */
const BANNER = `import { createRequire as gatewayCreateRequire } from 'node:module';
const require = gatewayCreateRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;`;

/** Bundles into `outdir` (emptied first) and answers esbuild's account of it. Throws when something forbidden got in. */
export async function buildFunctions(outdir = path.join(ROOT, 'dist/functions')): Promise<Metafile> {
  await rm(outdir, { recursive: true, force: true });
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: { index: 'functions/index.ts' },
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    chunkNames: 'chunks/[name]-[hash]',
    banner: { js: BANNER },
    // Names are kept as they are: a stack in the log must be readable.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'linked',
    external: ['@google-cloud/functions-framework'],
    plugins: [namedDynamicImports],
    metafile: true,
    logLevel: 'warning',
  });
  const forbidden = Object.keys(metafile.inputs).filter((file) => FORBIDDEN.some((pattern) => pattern.test(file)));
  if (forbidden.length > 0) throw new Error(`not for a function: ${forbidden.join(', ')}`);
  await mkdir(outdir, { recursive: true });
  await writeFile(path.join(outdir, 'package.json'), await manifest());
  return metafile;
}

/**
 * `const { X } = await import('a-commonjs-package')`: node finds the names, esbuild's chunk for such a package exports only `default`.
 * This gives the chunk exactly the names node gives, so that the same line means the same in both.
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

/** The package.json of the deployment: the buildpack installs these dependencies and starts the framework's CLI. */
async function manifest(): Promise<string> {
  const own: unknown = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
  const { name, version, dependencies } = readManifest(own);
  const framework = dependencies['@google-cloud/functions-framework'];
  if (framework === undefined || !/^\d/.test(framework))
    throw new Error('the functions-framework must be pinned exactly');
  const deployed = {
    name: `${name}-functions`,
    version,
    private: true,
    type: 'module',
    main: 'index.js',
    engines: { node: '24' },
    scripts: { start: 'functions-framework' },
    dependencies: { '@google-cloud/functions-framework': framework },
  };
  return `${JSON.stringify(deployed, null, 2)}\n`;
}

function readManifest(json: unknown): {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
} {
  const isManifest = (value: unknown): value is ReturnType<typeof readManifest> =>
    typeof value === 'object' && value !== null && 'name' in value && 'version' in value && 'dependencies' in value;
  if (!isManifest(json)) throw new Error('package.json lacks name, version or dependencies');
  return json;
}

if (import.meta.main) {
  const { outputs } = await buildFunctions(process.argv[2]);
  const total = Object.values(outputs).reduce((sum, { bytes }) => sum + bytes, 0);
  process.stdout.write(`functions: ${Object.keys(outputs).length} files, ${(total / 1e6).toFixed(1)} MB\n`);
}
