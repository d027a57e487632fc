// The version of package.json. rpc.discover reports it, and the gateway sends it to MCP servers and to Codex.
import { readFileSync } from 'node:fs';

/** Set by the bundler, because a deployed bundle does not contain the project's package.json. */
declare const GATEWAY_VERSION: string | undefined;

export const VERSION: string = typeof GATEWAY_VERSION === 'string' ? GATEWAY_VERSION : read();

function read(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  if (typeof manifest !== 'object' || manifest === null || !('version' in manifest)) throw new Error('no version');
  return String(manifest.version);
}
