// The import rules: which module may import which, which files may import a Google SDK, and where fixtures of tests
// are. No files and no folders import each other in a cycle.
// `node test/support/import-rules.ts` (part of `npm run check`) prints every import that breaks them.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/**
 * One row per module, the lowest layer first: the folders, or single files of them, that it may import besides itself
 * and the base modules. A row may name only modules of the rows above it, so there can be no cycle. Type imports count.
 */
export const MODULES: readonly (readonly [module: string, mayImport: readonly string[]])[] = [
  ['shared/rpc', []],
  ['shared/net', []],
  ['shared/store', []],
  ['shared/rate-limit', ['store']],
  ['shared/auth', ['net', 'store', 'rate-limit']],
  ['shared/sandbox', []],
  ['shared/terminals', ['sandbox']],
  ['shared/mcp', ['net', 'rpc', 'store', 'auth/logins/envelope.ts', 'sandbox']],
  ['shared/codex-host', ['sandbox']],
  ['shared/engines', ['net', 'rpc', 'codex-host/codex-host.ts']],
  ['shared/sandbox-ports', ['sandbox', 'terminals', 'mcp', 'codex-host']],
  [
    'shared/sandbox-link',
    ['net', 'rpc', 'auth/oidc.ts', 'auth/id-token.ts', 'sandbox', 'terminals', 'mcp', 'codex-host', 'sandbox-ports'],
  ],
  ['shared/sandbox-records', ['store', 'sandbox-ports', 'sandbox-link']],
  ['shared/patch', ['sandbox']],
  ['shared/webhooks', ['net', 'rpc', 'store']],
  ['shared/conversations', ['engines', 'store', 'rate-limit/windows/limit-document.ts']],
  ['shared/proto', ['rpc', 'conversations']],
  [
    'shared/services.ts',
    ['store', 'rate-limit', 'auth', 'engines', 'sandbox', 'terminals', 'mcp', 'sandbox-records', 'webhooks'].concat(
      'conversations',
    ),
  ],
  ['shared/owners', ['rpc', 'store', 'rate-limit', 'auth', 'mcp', 'sandbox-records', 'conversations', 'services.ts']],
  [
    'shared/methods',
    ['rpc', 'net', 'store', 'rate-limit', 'auth', 'engines', 'sandbox', 'terminals', 'mcp', 'patch', 'webhooks'].concat(
      ['conversations', 'proto', 'owners', 'services.ts'],
    ),
  ],
  ['shared/client', ['methods']],
  ['shared/forward', ['net', 'rpc', 'auth', 'engines', 'rate-limit', 'methods']],
  ['shared/create-services.ts', ['*']],
  ['shared/audit.ts', ['rpc', 'auth', 'rate-limit']],
  ['shared/exchange.ts', ['rpc', 'store/ride.ts', 'auth', 'rate-limit', 'services.ts', 'methods', 'audit.ts']],
  ['shared/gateway.ts', ['rpc', 'auth', 'rate-limit', 'services.ts', 'methods', 'exchange.ts']],
  ['functions/server', ['*']],
  ['functions/health', ['*', 'functions/server']],
  ['functions/jsonrpc', ['*', 'functions/server']],
  ['functions/webhook', ['*', 'functions/server']],
  ['functions/deployments', ['*', 'functions/server']],
  ['functions/companion', ['*', 'functions/server', 'functions/health']],
  // The sandbox service contains no store, keys, limits, conversations or credentials, so it may not import their code.
  [
    'functions/sandbox',
    ['sandbox-link', 'sandbox-ports', 'sandbox', 'terminals', 'mcp', 'codex-host', 'auth/oidc.ts'].concat(
      ['http.ts', 'node-server.ts', 'lifecycle/process.ts', 'upgrade.ts'].map((file) => `functions/server/${file}`),
    ),
  ],
  ['functions/index.ts', ['*', 'functions/*']],
  ['functions/console', ['client']],
  ['functions/cli', ['client', 'methods', 'auth/keys/edit-secret.ts', 'auth/keys/secret-versions.ts']],
  ['functions/local', ['*', 'functions/*']],
  ['functions/build', ['engines', 'codex-host', 'functions/console']],
];

/** The base modules: any file may import these files and folders, and they import only each other. */
const BASE_FILES = 'async|clock|errors|log|make-directory|protocol|turn-events|usage|version';
const BASE_FOLDERS = 'bounds|config|grpc|json|messages|telemetry';
const BASE = new RegExp(`^shared/((${BASE_FILES})\\.ts$|(${BASE_FOLDERS})/)`);

/** The adapters: the only files that import a Google SDK. */
const SDK = /^(@google-cloud\/|@grpc\/|google-auth-library$|google-gax$)/;
const SDK_ADAPTERS: readonly RegExp[] = [
  /^shared\/(grpc\/grpc-channel\.ts$|store\/firestore\/|webhooks\/bus\/pubsub|engines\/direct\/providers\/providers\.ts$)/,
  /^shared\/auth\/(keys\/secret-versions|logins\/kms|oidc|id-token)\.ts$/,
];

/** The sandbox of this machine, and the files that start processes with it; all others use ports. */
const SANDBOX = /^shared\/sandbox\/(sandbox|bubblewrap)\.ts$/;
const SANDBOX_USERS: readonly RegExp[] = [
  /^(shared\/(sandbox|terminals|codex-host|sandbox-ports)|functions\/sandbox)\//,
  /^shared\/(mcp\/local-stdio-servers|create-services)\.ts$/,
];

/** Files of methods, as the registry lists them: one file per method, and no method imports another. */
const REGISTRY = 'shared/methods/index.ts';
const METHODS: ReadonlySet<string> = new Set(
  importsOf(readFileSync(join(ROOT, REGISTRY), 'utf8')).map((specifier) =>
    normalize(join(dirname(REGISTRY), specifier)),
  ),
);

/** The module of a file: a folder of shared/, functions/ or test/, or the file itself if it is in no folder. */
function moduleOf(file: string): string {
  return file.split('/').slice(0, 2).join('/');
}

/** One sentence for each import of `file` that the rules forbid. `specifiers` are as written in the source. */
export function findForbidden(file: string, specifiers: readonly string[]): string[] {
  const rank = MODULES.findIndex(([module]) => module === moduleOf(file));
  const isBase = BASE.test(file);
  if (rank === -1 && !isBase) return [`${file} is in no module of the table`];
  const mayImport = MODULES[rank]?.[1] ?? [];
  return specifiers.flatMap((specifier) => {
    if (SDK.test(specifier)) {
      return SDK_ADAPTERS.some((adapters) => adapters.test(file))
        ? []
        : [`${file} imports ${specifier}: only the adapters import a Google SDK`];
    }
    if (!specifier.startsWith('.')) return [];
    const target = normalize(join(dirname(file), specifier));
    const module = moduleOf(target);
    if (!/^(shared|functions)\//.test(target) || BASE.test(target)) return [];
    if (SANDBOX.test(target) && !SANDBOX_USERS.some((users) => users.test(file))) {
      return [`${file} imports ${target}: only what runs processes in this process uses the sandbox of the machine`];
    }
    if (METHODS.has(target) && file !== REGISTRY) {
      return [`${file} imports ${target}: only ${REGISTRY} imports the file of a method`];
    }
    if (!isBase && (module === moduleOf(file) || mayImport.some((name) => allows(name, module, target)))) return [];
    return [`${file} imports ${target}: ${isBase ? 'a base module' : moduleOf(file)} may not import ${module}`];
  });
}

/** `name` is a module, or the only file of a module that may be imported. */
function allows(name: string, module: string, target: string): boolean {
  if (name === '*') return module.startsWith('shared/');
  if (name === 'functions/*') return module.startsWith('functions/');
  return [module, target].includes(name.startsWith('functions/') ? name : `shared/${name}`);
}

/** One sentence for each file that a test shares elsewhere than in test/support and test/cases. */
export function findForeignFixtures(file: string, specifiers: readonly string[]): string[] {
  return specifiers.flatMap((specifier) => {
    const target = specifier.startsWith('.') ? normalize(join(dirname(file), specifier)) : '';
    if (!/^test\/(?!support\/|cases\/).*\.ts$/.test(target)) return [];
    // A source text within a test may name files that do not exist.
    if (!existsSync(join(ROOT, target))) return [];
    // The benches, the simulation and the fault test are programs of several files.
    if (/^test\/(bench|simulate|soak)\//.test(file) && moduleOf(file) === moduleOf(target)) return [];
    return [`${file} imports ${target}: a fixture belongs in test/support`];
  });
}

/** The module specifiers of a source text: static and dynamic imports and re-exports, of types too. */
export function importsOf(source: string): string[] {
  const found = source.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*(['"])([^'"\n]+)\1/g);
  return [...found].map(([, , specifier]) => specifier ?? '');
}

/**
 * One sentence for a cycle of files, and for one of folders, if there are any; type imports count. The files beside
 * sub-folders (the interface of a module, and code that all of it uses) count one by one.
 */
export function findCycles(files: ReadonlyMap<string, readonly string[]>): string[] {
  const parents = new Set([...files.keys()].map((file) => dirname(dirname(file))));
  const unitOf = (file: string): string => (parents.has(dirname(file)) ? file : dirname(file));
  return [(file: string) => file, unitOf].flatMap((toNode) => {
    const edges = new Map<string, Set<string>>();
    for (const [file, specifiers] of files) {
      const from = toNode(file);
      const found = edges.get(from) ?? new Set();
      edges.set(from, found);
      for (const specifier of specifiers) {
        const target = specifier.startsWith('.') ? normalize(join(dirname(file), specifier)) : '';
        if (files.has(target) && toNode(target) !== from) found.add(toNode(target));
      }
    }
    const cycle = findCycle(edges);
    return cycle === undefined ? [] : [`${cycle.join(' imports ')}: a cycle`];
  });
}

/** The first cycle of a graph, with its first node again at its end. */
function findCycle(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] | undefined {
  const done = new Set<string>();
  const visit = (node: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return undefined;
    for (const next of edges.get(node) ?? []) {
      const cycle = visit(next, [...path, node]);
      if (cycle !== undefined) return cycle;
    }
    done.add(node);
    return undefined;
  };
  for (const node of edges.keys()) {
    const cycle = visit(node, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

/** Every violation in the tree below `root`. */
export function checkTree(root: string): string[] {
  const read = (pattern: string): Map<string, string[]> =>
    new Map(
      globSync(pattern, { cwd: root, exclude: ['**/node_modules/**'] })
        .toSorted()
        .map((file) => [file, importsOf(readFileSync(join(root, file), 'utf8'))]),
    );
  const program = read('{shared,functions}/**/*.ts');
  return [
    ...[...program].flatMap(([file, specifiers]) => findForbidden(file, specifiers)),
    ...findCycles(program),
    ...[...read('test/**/*.ts')].flatMap(([file, specifiers]) => findForeignFixtures(file, specifiers)),
  ];
}

if (process.argv[1] === import.meta.filename) {
  const violations = checkTree(ROOT);
  for (const violation of violations) process.stdout.write(`${violation}\n`);
  process.exitCode = violations.length === 0 ? 0 : 1;
}
