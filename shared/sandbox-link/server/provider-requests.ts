// Sends a request of Codex to its provider to the gateway side, and passes the answer back, byte for byte.
import type { ProviderAnswer, ProviderRequest } from '../../codex-host/codex-host.ts';
import type { Link } from '../link/link.ts';
import { ProviderHead } from '../messages.ts';

/** Status if the gateway side does not answer. Codex repeats the request, as after any 5xx. */
const NO_ANSWER = 502;

/** Never rejects. */
export async function forwardToGateway(
  link: Link,
  processId: string,
  request: ProviderRequest,
  answer: ProviderAnswer,
): Promise<void> {
  const { method, path, headers } = request;
  let hasHead = false;
  try {
    const [body, back] = [link.openStream(), link.openStream()];
    const reset = (): void => {
      body.destroy();
      back.destroy();
    };
    // Codex has closed its connection, or the answer is complete.
    answer.body.once('close', reset);
    request.body.once('error', () => body.destroy());
    request.body.pipe(body);
    body.resume();
    back.end();
    const params = { process_id: processId, method, path, headers, body: body.id, answer: back.id };
    const head = ProviderHead.parse(await link.request('provider.request', params));
    hasHead = true;
    answer.writeHead(head.status, head.headers);
    back.once('close', () => {
      if (!back.readableEnded) answer.body.destroy();
    });
    back.pipe(answer.body);
  } catch {
    if (hasHead) {
      answer.body.destroy();
      return;
    }
    answer.writeHead(NO_ANSWER, { connection: ['close'], 'content-length': ['0'] });
    answer.body.end();
  }
}
