// What the Terraform files state about the code is true: names of functions and variables, texts of log lines, files of
// the bundles. The tests of the configuration itself are in terraform/tests.
import { OAuth2Client } from 'google-auth-library';
import { expect, it } from 'vitest';
import { SandboxVariables } from '../../../shared/config/sandbox-service.ts';
import { Variables } from '../../../shared/config/variables.ts';
import { matches, read, sources, terraform } from '../../support/fixtures/project.ts';

/** A `name = { ... }` block of a file; its closing brace is the first at the block's own indentation. */
function block(text: string, start: RegExp): string {
  const found = new RegExp(`^( *)${start.source}[^\\n]*\\n([\\s\\S]*?)\\n\\1[)}]`, 'm').exec(text);
  if (found?.[2] === undefined) throw new Error(`no block ${start.source}`);
  return found[2];
}

it('Terraform deploys exactly the functions of the index, under its names', () => {
  const deployed = matches(block(read('terraform/functions.tf'), /functions = \{/), /^ {4}(\w+) = \{$/gm);
  const written = matches(block(read('functions/index.ts'), /const FUNCTIONS/), /^ {2}async (\w+)\(\)/gm);
  expect(deployed).toEqual(written);
});

it('Terraform gives each function the name of its endpoint, so that one URL serves them all', () => {
  const resource = block(read('terraform/functions.tf'), /resource "google_cloudfunctions2_function" "function" \{/);
  for (const line of [/^ *for_each += local\.functions$/m, /^ *name += each\.key$/m, /^ *entry_point += each\.key$/m]) {
    expect(resource).toMatch(line);
  }
  const url = /^ *functions_url = "https:\/\/\$\{var\.region\}-\$\{var\.project_id\}\.cloudfunctions\.net"$/m;
  expect(read('terraform/addresses.tf')).toMatch(url);
});

it('Terraform sets no variable that the configuration does not read', () => {
  // The last one is read by glibc.
  const known = new Set([...Object.keys(Variables.shape), 'MALLOC_MMAP_THRESHOLD_']);
  const functions = read('terraform/functions.tf');
  const given = [
    block(functions, /common_env = merge\(/),
    block(functions, /function_env = \{/),
    block(read('terraform/companion.tf'), /companion_env = merge\(/),
    block(read('terraform/secrets.tf'), /environment_secrets = \{/),
  ].join('\n');
  const names = matches(given, /\b([A-Z][A-Z0-9_]{3,})\s+=/g);
  expect(names.size).toBeGreaterThan(10);
  expect([...names].filter((name) => !known.has(name))).toEqual([]);
});

it('Terraform sets no variable that the sandbox service does not read, and none that contains a secret', () => {
  const names = matches(block(read('terraform/sandbox.tf'), /sandbox_env = merge\(/), /\b([A-Z][A-Z0-9_]{3,})\s+=/g);
  expect(names).toEqual(new Set(['SANDBOX_AUDIENCE', 'SANDBOX_CALLERS', 'MCP_SERVERS']));
  expect([...names].filter((name) => !(name in SandboxVariables.shape))).toEqual([]);
  expect(read('terraform/sandbox.tf')).not.toContain('secret_key_ref');
});

it('Terraform lets the sandbox service reach the host of Google’s certificates, and resolve no other', () => {
  const [host] = matches(read('terraform/networks.tf'), /sandbox = "https:\/\/([^"]+)"/g);
  const { oauth2FederatedSignonPemCertsUrl: certificates } = new OAuth2Client().endpoints;
  expect(new URL(String(certificates)).host).toBe(host);
});

it('Terraform’s alerts match lines that the code logs, word for word', () => {
  const messages = Array.from(terraform().matchAll(/messages\s+= \[([^\]]+)\]/g), ([, list]) => list ?? '').join();
  const watched = [...matches(messages, /"([^"]+)"/g), 'call'];
  expect(watched.length).toBeGreaterThan(5);
  const code = sources();
  expect(watched.filter((message) => !code.includes(`'${message}'`))).toEqual([]);
});

it('Terraform’s metrics use fields that the log line of a call has', () => {
  const fields = matches(terraform(), /EXTRACT\(jsonPayload\.(\w+)\)/g);
  const line = block(read('shared/audit.ts'), /log\.log\(severityOf\(record\.outcome\), 'call', \{/);
  expect([...fields].filter((field) => !new RegExp(`\\b${field}:`).test(line))).toEqual([]);
});

it('every grant is in the table of privileges or of invokers', () => {
  const grants = matches(terraform(), /^resource "(google_\w+_iam_member" "\w+)"/gm);
  const tables = read('terraform/tests/privileges.tftest.hcl') + read('terraform/tests/access.tftest.hcl');
  expect(grants.size).toBeGreaterThan(10);
  expect([...grants].filter((grant) => !tables.includes(grant.replace('" "', '.')))).toEqual([]);
});

it('Terraform grants only to one member at a time, so that no other member loses a role', () => {
  expect(matches(terraform(), /^resource "(google_\w+_iam_(?:binding|policy))"/gm)).toEqual(new Set());
});

it('Terraform keeps secret values out of plan and state', () => {
  expect(terraform()).not.toMatch(/\bsecret_data\s*=/);
  expect(terraform()).not.toMatch(/resource "random_password"/);
});

it('Terraform starts the companion from the file that the build makes', () => {
  const [file] = matches(read('terraform/companion.tf'), /args\s+= \["([^"]+)"\]/g);
  expect(read('functions/build/main.ts')).toContain(`start: 'node ${file}'`);
});
