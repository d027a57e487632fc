// The one version number, that of package.json: of the API in rpc.discover, and of the client this gateway is to MCP
// servers and to Codex.
import { readFileSync } from 'node:fs';

/** Set by the bundler: a deployed bundle has no package.json of the project beside it. */
declare const GATEWAY_VERSION: string | undefined;

export const VERSION: string = typeof GATEWAY_VERSION === 'string' ? GATEWAY_VERSION : read();

function read(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  if (typeof manifest !== 'object' || manifest === null || !('version' in manifest)) throw new Error('no version');
  return String(manifest.version);
}
