// The configuration of an app-server: one provider, commands in Codex's own sandbox without network, nothing that calls
// another host. It holds no secret, and no thread gets one: the provider is the exit of the app-server's namespace.
import { PROVIDER, WORKSPACE } from './codex-host.ts';

/** Below this directory Codex does not write programs, so none is written to CODEX_HOME. */
export const HIDDEN_TMP = '/dev/shm';
/**
 * Where Codex and what comes with it is; and where it finds itself under the names that it has in its sandbox, and the
 * bwrap to use.
 */
export const PROGRAMS = '/opt/codex';
export const TOOLS = '/opt/codex-tools';

const COMMAND_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Features that call other hosts, start other programs or wait for a user at a terminal. */
const FEATURES_OFF = [
  'api_key_model_discovery',
  'apps',
  'auth_elicitation',
  'browser_use',
  'browser_use_external',
  'browser_use_full_cdp_access',
  'code_mode_host',
  'computer_use',
  'daemon_auto_start',
  'enable_request_compression',
  'goals',
  'guardian_approval',
  'hooks',
  'image_generation',
  'in_app_browser',
  'in_app_chat',
  'in_app_dictation',
  'in_app_local_automation',
  'in_app_updates',
  'in_app_voice',
  'memories',
  'network_proxy',
  'plugin_sharing',
  'plugins',
  'remote_plugin',
  'request_permissions_tool',
  'shell_snapshot',
  'skill_mcp_dependency_install',
  'tool_suggest',
  // A provider that cannot be reached is an error of the turn, not a reason to wait for ever.
  'unbounded_connection_retries',
  'workspace_dependencies',
] as const;

/**
 * config.toml; `baseUrl` is that of the Responses API, without `/responses`. `shell_environment_policy`: without it
 * every variable of the app-server reaches the commands of the model. The permission profile reads all there is, which
 * in the gateway's sandbox is the system, the workspace and nothing else; a narrower one would have Codex start its
 * sandbox in every turn only to look for files (60 ms). Untrusted project: a `.codex/config.toml` in the workspace,
 * which the caller can write, would otherwise start programs outside Codex's sandbox.
 */
export function toConfigToml(baseUrl: string): string {
  return `model_provider = ${quote(PROVIDER)}
approval_policy = "never"
default_permissions = "gateway"
allow_login_shell = false
check_for_update_on_startup = false
web_search = "disabled"
cli_auth_credentials_store = "ephemeral"
project_doc_max_bytes = 0

[permissions.gateway.filesystem]
":root" = "read"
"/tmp" = "write"

[permissions.gateway.filesystem.":workspace_roots"]
"." = "write"

[permissions.gateway.network]
enabled = false

[projects.${quote(WORKSPACE)}]
trust_level = "untrusted"

[model_providers.${PROVIDER}]
name = ${quote(PROVIDER)}
base_url = ${quote(baseUrl)}
wire_api = "responses"
requires_openai_auth = false
request_max_retries = 2
stream_max_retries = 0
stream_idle_timeout_ms = 120000

[shell_environment_policy]
inherit = "core"
ignore_default_excludes = false
set = { PATH = ${quote(`${TOOLS}:${COMMAND_PATH}`)}, TMPDIR = "/tmp" }

[analytics]
enabled = false

[feedback]
enabled = false

[history]
persistence = "none"

[agents]
enabled = false

[skills]
include_instructions = false
bundled = { enabled = false }

[otel]
exporter = "none"
trace_exporter = "none"
metrics_exporter = "none"

[features]
${FEATURES_OFF.map((name) => `${name} = false`).join('\n')}
`;
}

/** A TOML basic string: JSON's escapes are a subset of its own. */
function quote(text: string): string {
  return JSON.stringify(text);
}
