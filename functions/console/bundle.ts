// Bundles the page reproducibly, for the local server (in memory) and for Firebase Hosting (dist/console). Declares its
// content security policy.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { build } from 'esbuild';

export interface PageFile {
  readonly type: string;
  readonly body: Uint8Array;
}

const HERE = import.meta.dirname;
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
};

/**
 * Allows only the page's own files, and no inline script or style. 'self' covers the WebSocket of the same origin (CSP
 * 3); one of another origin must be passed to the build. `frame-ancestors` is effective in a header only.
 */
export function contentPolicy(socketUrl?: string): string {
  const connect = socketUrl === undefined ? "'self'" : `'self' ${new URL(socketUrl).origin}`;
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    // `data:`: the images of prompts.
    "img-src 'self' data:",
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}

/**
 * Returns the files by path (`/index.html`, `/main.js` ...). `socketUrl`: URL of the WebSocket, if it is not on the
 * origin of the page.
 */
export async function bundleConsole(options: { readonly socketUrl?: string } = {}): Promise<Map<string, PageFile>> {
  const { socketUrl } = options;
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: { main: 'main.ts', style: 'style.css' },
    outdir: HERE,
    write: false,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2024',
    minify: true,
    entryNames: '[name]',
    chunkNames: '[name]-[hash]',
    legalComments: 'linked',
    logLevel: 'silent',
  });
  const files = new Map<string, PageFile>();
  const add = (name: string, body: Uint8Array): void => {
    files.set(`/${name}`, { type: TYPES[path.extname(name)] ?? 'application/octet-stream', body });
  };
  for (const { path: file, contents } of outputFiles) add(path.relative(HERE, file), contents);
  const page = await readFile(path.join(HERE, 'index.html'), 'utf8');
  const filled = page.replace('%POLICY%', contentPolicy(socketUrl)).replace('%SOCKET%', toAttribute(socketUrl ?? ''));
  add('index.html', Buffer.from(filled));
  add('icon.svg', await readFile(path.join(HERE, 'icon.svg')));
  return files;
}

function toAttribute(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');
}
