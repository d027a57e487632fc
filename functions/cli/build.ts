// `npm run build:client` builds the npm package of the client and the command line: an ES module for Node 20 and
// browsers, a program, and self-contained type declarations. It contains no server code; the types of the methods are
// generated from their schemas.
import { spawnSync } from 'node:child_process';
import { chmod, copyFile, cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build, type Metafile } from 'esbuild';
import { makeDirectory } from '../../shared/make-directory.ts';
import * as methods from '../../shared/methods/index.ts';
import { toType } from './json-schema-types.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** Modules that are allowed in the package. */
const ALLOWED = [
  /^(shared\/client|functions\/cli)\//,
  /^shared\/(errors|protocol|turn-events|json\/json-object|messages\/text|config\/environment)\.ts$/,
];

/** The modules of shared/ whose types the declarations contain. */
const DECLARED = 'errors.ts protocol.ts turn-events.ts json/json-object.ts messages/turn-settings.ts'.split(' ');

/** Builds into `outdir` (emptied first); returns esbuild's metafile. Throws if server code is bundled. */
export async function buildClient(outdir = path.join(ROOT, 'dist/client')): Promise<Metafile> {
  await rm(outdir, { recursive: true, force: true });
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: { index: 'shared/client/index.ts', cli: 'functions/cli/main.ts' },
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
    external: ['node:*'],
    chunkNames: 'chunk-[hash]',
    metafile: true,
    logLevel: 'warning',
  });
  const foreign = Object.keys(metafile.inputs).filter((file) => !ALLOWED.some((modules) => modules.test(file)));
  if (foreign.length > 0) throw new Error(`the client must not contain: ${foreign.join(', ')}`);
  await chmod(path.join(outdir, 'cli.js'), 0o755);
  await writeDeclarations(outdir);
  await writeManifest(outdir);
  await copyFile(path.join(ROOT, 'shared/client/README.md'), path.join(outdir, 'README.md'));
  return metafile;
}

/** Returns the text of the file that replaces shared/client/methods.ts in the package. */
export function methodTypes(): string {
  const members = Object.values(methods).map(
    ({ name, summary, params, result }) =>
      `  /** ${summary} */\n  readonly ${JSON.stringify(name)}: {\n` +
      `    readonly params: ${toType(params, 'input')};\n    readonly result: ${toType(result, 'output')};\n  };\n`,
  );
  return `export type Methods = {\n${members.join('')}};\n`;
}

/**
 * Writes the declarations with the TypeScript compiler, from copies of the sources in which the one file that imports
 * the server's schemas is replaced.
 */
async function writeDeclarations(outdir: string): Promise<void> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'gateway-client-'));
  try {
    await cp(path.join(ROOT, 'shared/client'), path.join(scratch, 'client'), { recursive: true });
    for (const file of DECLARED) await cp(path.join(ROOT, 'shared', file), path.join(scratch, file));
    await writeFile(path.join(scratch, 'client/methods.ts'), methodTypes());
    const config = {
      extends: path.join(ROOT, 'tsconfig.json'),
      compilerOptions: {
        noEmit: false,
        declaration: true,
        emitDeclarationOnly: true,
        rootDir: scratch,
        outDir: path.join(scratch, 'out'),
        typeRoots: [path.join(ROOT, 'node_modules/@types')],
      },
      files: ['client/index.ts'],
      include: [],
    };
    await writeFile(path.join(scratch, 'tsconfig.json'), JSON.stringify(config));
    await writeFile(path.join(scratch, 'package.json'), '{"type": "module"}');
    const compiler = path.join(ROOT, 'test/node_modules/typescript/bin/tsc');
    const { status, stdout } = spawnSync(process.execPath, [compiler, '-p', scratch], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the client's declarations: ${stdout}`);
    await makeDirectory(outdir);
    const made = path.join(scratch, 'out');
    const files = await readdir(made, { recursive: true });
    for (const file of files.filter((name) => name.endsWith('.d.ts'))) {
      const text = await readFile(path.join(made, file), 'utf8');
      await writeFile(
        path.join(outdir, path.basename(file)),
        text.replace(/(from|import\()( ?['"])\.[./]*(?:[\w-]+\/)*([\w-]+)\.ts(['"])/g, '$1$2./$3.js$4'),
      );
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function writeManifest(outdir: string): Promise<void> {
  const own: unknown = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
  if (typeof own !== 'object' || own === null || !('version' in own) || !('license' in own)) {
    throw new Error('package.json lacks version or license');
  }
  const manifest = {
    name: 'codex-gateway-client',
    version: own.version,
    description: 'Typed client and command line of the Codex Gateway',
    license: own.license,
    type: 'module',
    engines: { node: '>=20' },
    exports: { '.': { types: './index.d.ts', default: './index.js' } },
    bin: { 'codex-gateway': './cli.js' },
    sideEffects: false,
  };
  await writeFile(path.join(outdir, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

if (process.argv[1] === import.meta.filename) {
  const { outputs } = await buildClient();
  const total = Object.values(outputs).reduce((sum, { bytes }) => sum + bytes, 0);
  process.stdout.write(`client: ${Object.keys(outputs).length} files, ${(total / 1e6).toFixed(1)} MB\n`);
}
