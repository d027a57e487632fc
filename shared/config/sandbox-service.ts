// Reads the environment of the sandbox service. It has far fewer variables than the gateway, and no credential except
// the one by which callers authenticate.
import { z } from 'zod';
import { LOCAL_HOST } from '../protocol.ts';
import { VERSION } from '../version.ts';
import type { Environment } from './environment.ts';
import { ConfigError, readVariables } from './read-variables.ts';
import { accounts, executable, host, logFormat, oneLine, port, readBy, sharedSecret } from './values/fields.ts';
import { type McpServerSettings, readMcpServers } from './values/mcp-servers.ts';

/** Differs from the port of a gateway on the same machine. */
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

/** A program that the administrator registered in this service. Gateways refer to it by name. */
export type RegisteredServer = Extract<McpServerSettings, { command: string }>;

export interface SandboxServiceConfig {
  readonly host: string;
  readonly port: number;
  /** How callers authenticate. */
  readonly admission: SandboxAdmission;
  readonly dataDir: string;
  /** The file system of Cloud Run is memory. */
  readonly isDiskMemory: boolean;
  readonly logFormat: 'json' | 'pretty';
  /** The deployed service and its revision, for Error Reporting. */
  readonly service: { readonly service: string; readonly version: string } | undefined;
  /** Path of the native Codex program; undefined: that of the installed package. */
  readonly codexProgram: string | undefined;
  readonly servers: ReadonlyMap<string, RegisteredServer>;
  /** The value of PATH, to find programs of the machine (bwrap). */
  readonly searchPath: string;
  readonly warnings: readonly string[];
}

/** A shared secret, or Google ID tokens for `audience` of one of the service accounts. */
export type SandboxAdmission =
  | { readonly token: string }
  | { readonly audience: string; readonly callers: readonly string[] };

/** Throws ConfigError with one line per mistake in the environment. */
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
    isDiskMemory: settings.K_SERVICE !== undefined,
    logFormat: settings.GATEWAY_LOG ?? (process.stdout.isTTY && settings.K_SERVICE === undefined ? 'pretty' : 'json'),
    service: toService(settings),
    codexProgram: settings.CODEX_BIN,
    servers,
    searchPath: settings.PATH,
    // Variables of a gateway on the same machine are not reported, except misspelt names.
    warnings: warnings.filter((line) => line.includes('did you mean')),
  };
}

function toService({ K_SERVICE: service, K_REVISION: version = VERSION }: z.output<typeof SandboxVariables>) {
  return service === undefined ? undefined : { service, version };
}

/** Returns undefined and adds a line to `problems`, unless exactly one way of authentication is configured. */
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

/**
 * Rejects servers with credentials in headers or, unless marked, in the environment, because untrusted programs run in
 * this service.
 */
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
