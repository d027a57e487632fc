// The environment of the sandbox service: far less than the gateway's, and no credential but the one that its callers
// prove themselves with.
import { z } from 'zod';
import { LOCAL_HOST } from '../protocol.ts';
import { VERSION } from '../version.ts';
import type { Environment } from './environment.ts';
import { accounts, executable, host, logFormat, oneLine, port, readBy, sharedSecret } from './fields.ts';
import { type McpServerSettings, readMcpServers } from './mcp-servers.ts';
import { ConfigError, readVariables } from './read-variables.ts';

/** Beside the gateway's own on the same machine. */
const SANDBOX_PORT = 8081;

export const SandboxVariables = z.object({
  PORT: port.default(SANDBOX_PORT),
  HOST: host.default(LOCAL_HOST),
  SANDBOX_TOKEN: sharedSecret.optional(),
  SANDBOX_AUDIENCE: oneLine.optional(),
  SANDBOX_CALLERS: accounts.optional(),
  GATEWAY_DATA_DIR: oneLine.default('.data'),
  GATEWAY_LOG: logFormat.optional(),
  CODEX_BIN: executable.optional(),
  MCP_SERVERS: readBy(readMcpServers).optional(),
  K_SERVICE: z.string().optional(),
  K_REVISION: z.string().optional(),
  PATH: z.string().default('/usr/local/bin:/usr/bin:/bin'),
});

/** A program that the administrator registered here; gateways name it. */
export type RegisteredServer = Extract<McpServerSettings, { command: string }>;

export interface SandboxServiceConfig {
  readonly host: string;
  readonly port: number;
  /** Who may open a connection. */
  readonly admission: SandboxAdmission;
  readonly dataDir: string;
  readonly logFormat: 'json' | 'pretty';
  /** The deployed service and its revision, for Error Reporting. */
  readonly service: { readonly service: string; readonly version: string } | undefined;
  /** Path of the native Codex program; undefined: the installed package's. */
  readonly codexProgram: string | undefined;
  readonly servers: ReadonlyMap<string, RegisteredServer>;
  /** PATH, for programs of the machine (bwrap). */
  readonly searchPath: string;
  readonly warnings: readonly string[];
}

/** One secret that both sides have, or Google ID tokens for `audience` of one of the accounts. */
export type SandboxAdmission =
  | { readonly token: string }
  | { readonly audience: string; readonly callers: readonly string[] };

/** Throws ConfigError with every mistake in the environment, a line each. */
export function loadSandboxConfig(env: Environment): SandboxServiceConfig {
  const { settings, problems, warnings } = readVariables(SandboxVariables, env);
  const admission = readAdmission(settings, problems);
  const servers = readServers(settings.MCP_SERVERS, problems);
  if (problems.length > 0 || admission === undefined) throw new ConfigError(problems, warnings);
  return {
    host: settings.HOST,
    port: settings.PORT,
    admission,
    dataDir: settings.GATEWAY_DATA_DIR,
    logFormat: settings.GATEWAY_LOG ?? (process.stdout.isTTY && settings.K_SERVICE === undefined ? 'pretty' : 'json'),
    service: toService(settings),
    codexProgram: settings.CODEX_BIN,
    servers,
    searchPath: settings.PATH,
    // Those of a gateway on the same machine are no mistake here.
    warnings: warnings.filter((line) => line.includes('did you mean')),
  };
}

function toService({ K_SERVICE: service, K_REVISION: version = VERSION }: z.output<typeof SandboxVariables>) {
  return service === undefined ? undefined : { service, version };
}

/** Undefined, with a line in `problems`, unless exactly one way is configured. */
function readAdmission(settings: z.output<typeof SandboxVariables>, problems: string[]): SandboxAdmission | undefined {
  const { SANDBOX_TOKEN: token, SANDBOX_AUDIENCE: audience, SANDBOX_CALLERS: callers } = settings;
  if (problems.some((problem) => problem.startsWith('SANDBOX_'))) return undefined;
  if ((token === undefined) === (audience === undefined)) {
    problems.push('SANDBOX_TOKEN: must be set, or SANDBOX_AUDIENCE with SANDBOX_CALLERS instead of it, and not both');
  } else if (token !== undefined) return { token };
  else if (audience !== undefined && callers !== undefined) return { audience, callers };
  else problems.push('SANDBOX_CALLERS: must be set with SANDBOX_AUDIENCE: the service accounts of the callers');
  return undefined;
}

/** Headers and environments hold credentials, and this service is where untrusted programs run. */
function readServers(
  given: ReadonlyMap<string, McpServerSettings> | undefined,
  problems: string[],
): ReadonlyMap<string, RegisteredServer> {
  const servers = new Map<string, RegisteredServer>();
  for (const [name, server] of given ?? []) {
    if ('url' in server) problems.push(`MCP_SERVERS: ${name} is reached by URL: register it at the gateway`);
    else if (Object.keys(server.env).length > 0 && !server.in_sandbox) {
      problems.push(`MCP_SERVERS: ${name} has "env", which its processes can read: mark it "in_sandbox": true`);
    } else servers.set(name, server);
  }
  return servers;
}
