// The configuration of an app-server: one provider, commands in Codex's own sandbox without network, and no feature
// that calls another host. It contains no secret: the provider's URL is the loopback port of the app-server's namespace
// (exit.ts), and the credential is added outside.
import { CODEX_HOME, PROVIDER, WORKSPACE } from '../codex-host.ts';

/** Below this directory Codex does not write programs, so none is written to CODEX_HOME. */
export const HIDDEN_TMP = '/dev/shm';
/**
 * PROGRAMS: the path of Codex and the programs that come with it. TOOLS: the path of links to Codex under the names by
 * which it runs itself in its sandbox, and of the bwrap to use.
 */
export const PROGRAMS = '/opt/codex';
export const TOOLS = '/opt/codex-tools';

/** The file below CODEX_HOME with the catalogue of models (model-catalog.ts). */
export const CATALOG_FILE = 'models.json';

const COMMAND_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Features that call other hosts, start other programs or wait for a user at a terminal. */
const FEATURES_OFF = [
  'api_key_model_discovery',
  'apps',
  'auth_elicitation',
  'browser_use',
  'browser_use_external',
  'browser_use_full_cdp_access',
  // Runs scripts of a model. No model has them (model-catalog.ts).
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
  // A provider that cannot be reached must fail the turn; with this feature, Codex would retry forever.
  'unbounded_connection_retries',
  'workspace_dependencies',
] as const;

/**
 * Returns the text of config.toml. `baseUrl` is the URL of the Responses API, without `/responses`. Without
 * `shell_environment_policy`, the model's commands would inherit every variable of the app-server. The permission
 * profile allows reading everything, which in the gateway's sandbox is only the system and the workspace; with a
 * narrower one, Codex would start its sandbox in every turn just to search files (60 ms). The project is untrusted,
 * because a `.codex/config.toml` in the workspace, which the caller can write, could otherwise start programs outside
 * Codex's sandbox.
 */
export function toConfigToml(baseUrl: string): string {
  return `model_provider = ${quote(PROVIDER)}
approval_policy = "never"
default_permissions = "gateway"
allow_login_shell = false
check_for_update_on_startup = false
web_search = "disabled"
model_catalog_json = ${quote(`${CODEX_HOME}/${CATALOG_FILE}`)}
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

/** Returns a TOML basic string, whose escapes include those of JSON. */
function quote(text: string): string {
  return JSON.stringify(text);
}
