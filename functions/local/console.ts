// Serves the console at `/` of the local gateway. It is bundled from its sources at the first request and kept in
// memory, so that `npm start` does not wait for a build and never serves an outdated one.
import { codeOf, RpcError } from '../../shared/errors.ts';
import { type HttpHandler, pathOf, sendJson } from '../server/http.ts';

type Files = ReadonlyMap<string, { readonly type: string; readonly body: Uint8Array }>;

/** Serves `/` and the files of the console. Throws RpcError `not_found` for other paths. */
export function createConsoleHandler(endpoints: readonly string[]): HttpHandler {
  let made: Promise<{ readonly files: Files; readonly policy: string } | undefined> | undefined;

  return async (req, res) => {
    const path = pathOf(req);
    if (path === '/' && req.method !== 'GET' && req.method !== 'HEAD') {
      throw new RpcError('method_not_allowed', {
        message: `Method not allowed: the endpoints are ${endpoints.join(', ')}`,
        data: { allow: 'GET, HEAD' },
      });
    }
    // A request for JSON at `/` returns the list of endpoints. So does every request if the bundler is not installed.
    const isForPage = path !== '/' || (req.headers.accept ?? '').includes('text/html');
    if (req.method === 'GET' && (path === '/' || FILE.test(path)) && isForPage) {
      made ??= make().catch((error: unknown) => {
        made = undefined;
        throw error;
      });
      const page = await made;
      const file = page?.files.get(path === '/' ? '/index.html' : path);
      if (page !== undefined && file !== undefined) {
        res.writeHead(200, {
          'Content-Type': file.type,
          'Content-Length': file.body.length,
          'Content-Security-Policy': `${page.policy}; frame-ancestors 'none'`,
          'X-Content-Type-Options': 'nosniff',
          'Referrer-Policy': 'no-referrer',
          'Cross-Origin-Opener-Policy': 'same-origin',
          'Cache-Control': 'no-cache',
        });
        res.end(file.body);
        return;
      }
    }
    if (path === '/') return sendJson(res, 200, { name: 'codex-gateway', endpoints });
    throw new RpcError('not_found', { message: `Not found: the endpoints are ${endpoints.join(', ')}` });
  };
}

const FILE = /^\/[\w.-]{1,100}\.(?:html|js|css|svg|txt)$/;

/** Returns undefined if the development dependencies are not installed. */
async function make(): Promise<{ readonly files: Files; readonly policy: string } | undefined> {
  try {
    const { bundleConsole, contentPolicy } = await import('../console/bundle.ts');
    return { files: await bundleConsole(), policy: contentPolicy() };
  } catch (error) {
    if (codeOf(error) === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}
