// The import rules, written once: which room may import which, which files may import a Google SDK, and where fixtures
// of tests are. No files and no folders import each other in a circle.
// `node test/support/import-rules.ts` (part of `npm run check`) prints every import that breaks them.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/**
 * One row a room, lowest floor first: the folders, or single files of them, that it may import besides itself and the
 * ground floor. A room may name only rooms of the rows above it, so there can be no circle. Type imports count.
 */
export const ROOMS: readonly (readonly [room: string, mayImport: readonly string[]])[] = [
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
  // The sandbox service holds no store, keys, limits, conversations or credentials, so their code is not in it either.
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
  ['functions/build', ['engines', 'codex-host', 'functions/cli', 'functions/console']],
];

/** The ground floor: any file may import these files and folders, and they import each other only. */
const GROUND_FLOOR_FILES = 'async|clock|errors|log|make-directory|protocol|turn-events|usage|version';
const GROUND_FLOOR_FOLDERS = 'bounds|config|grpc|json|messages|telemetry';
const GROUND_FLOOR = new RegExp(`^shared/((${GROUND_FLOOR_FILES})\\.ts$|(${GROUND_FLOOR_FOLDERS})/)`);

/** The adapters: the only files that import a Google SDK. */
const SDK = /^(@google-cloud\/|@grpc\/|google-auth-library$|google-gax$)/;
const SDK_ADAPTERS: readonly RegExp[] = [
  /^shared\/(grpc\/grpc-channel\.ts$|store\/firestore\/|webhooks\/bus\/pubsub|engines\/direct\/providers\/providers\.ts$)/,
  /^shared\/auth\/(keys\/secret-versions|logins\/kms|oidc|id-token)\.ts$/,
];

/** The sandbox of this machine, and what starts processes with it; everything else uses ports. */
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

/** The room of a file: a folder of shared/, functions/ or test/, or the file itself when it stands in no folder. */
function roomOf(file: string): string {
  return file.split('/').slice(0, 2).join('/');
}

/** One sentence for each import of `file` that the rules forbid. `specifiers` are as written in the source. */
export function findForbidden(file: string, specifiers: readonly string[]): string[] {
  const rank = ROOMS.findIndex(([room]) => room === roomOf(file));
  const isGround = GROUND_FLOOR.test(file);
  if (rank === -1 && !isGround) return [`${file} is in no room of the table`];
  const mayImport = ROOMS[rank]?.[1] ?? [];
  return specifiers.flatMap((specifier) => {
    if (SDK.test(specifier)) {
      return SDK_ADAPTERS.some((adapters) => adapters.test(file))
        ? []
        : [`${file} imports ${specifier}: only the adapters import a Google SDK`];
    }
    if (!specifier.startsWith('.')) return [];
    const target = normalize(join(dirname(file), specifier));
    const room = roomOf(target);
    if (!/^(shared|functions)\//.test(target) || GROUND_FLOOR.test(target)) return [];
    if (SANDBOX.test(target) && !SANDBOX_USERS.some((users) => users.test(file))) {
      return [`${file} imports ${target}: only what runs processes in this process uses the sandbox of the machine`];
    }
    if (METHODS.has(target) && file !== REGISTRY) {
      return [`${file} imports ${target}: only ${REGISTRY} imports the file of a method`];
    }
    if (!isGround && (room === roomOf(file) || mayImport.some((name) => allows(name, room, target)))) return [];
    return [`${file} imports ${target}: ${isGround ? 'the ground floor' : roomOf(file)} may not import ${room}`];
  });
}

/** `name` is a room, or a file of a room of which no more may be imported. */
function allows(name: string, room: string, target: string): boolean {
  if (name === '*') return room.startsWith('shared/');
  if (name === 'functions/*') return room.startsWith('functions/');
  return [room, target].includes(name.startsWith('functions/') ? name : `shared/${name}`);
}

/** One sentence for each file that a test shares elsewhere than in test/support and test/cases. */
export function findForeignFixtures(file: string, specifiers: readonly string[]): string[] {
  return specifiers.flatMap((specifier) => {
    const target = specifier.startsWith('.') ? normalize(join(dirname(file), specifier)) : '';
    if (!/^test\/(?!support\/|cases\/).*\.ts$/.test(target)) return [];
    // A source text within a test may name files that do not exist.
    if (!existsSync(join(ROOT, target))) return [];
    // The benches, the simulation and the fault test are programs of several files.
    if (/^test\/(bench|simulate|soak)\//.test(file) && roomOf(file) === roomOf(target)) return [];
    return [`${file} imports ${target}: a fixture belongs in test/support`];
  });
}

/** The module specifiers of a source text: static and dynamic imports and re-exports, of types too. */
export function importsOf(source: string): string[] {
  const found = source.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*(['"])([^'"\n]+)\1/g);
  return [...found].map(([, , specifier]) => specifier ?? '');
}

/**
 * One sentence for a circle of files, and for one of folders, if there are any; type imports count. The files beside
 * sub-folders (the face of a room, what all of it uses) count one by one.
 */
export function findCircles(files: ReadonlyMap<string, readonly string[]>): string[] {
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
    const circle = findCircle(edges);
    return circle === undefined ? [] : [`${circle.join(' imports ')}: a circle`];
  });
}

/** The first circle of a graph, with its first node again at its end. */
function findCircle(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] | undefined {
  const done = new Set<string>();
  const visit = (node: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return undefined;
    for (const next of edges.get(node) ?? []) {
      const circle = visit(next, [...path, node]);
      if (circle !== undefined) return circle;
    }
    done.add(node);
    return undefined;
  };
  for (const node of edges.keys()) {
    const circle = visit(node, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

/** Every breach in the tree below `root`. */
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
    ...findCircles(program),
    ...[...read('test/**/*.ts')].flatMap(([file, specifiers]) => findForeignFixtures(file, specifiers)),
  ];
}

if (process.argv[1] === import.meta.filename) {
  const breaches = checkTree(ROOT);
  for (const breach of breaches) process.stdout.write(`${breach}\n`);
  process.exitCode = breaches.length === 0 ? 0 : 1;
}
