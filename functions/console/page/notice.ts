// Shows failures and states with advice, and a countdown where the caller has to wait.

import type { VNode } from 'preact';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { isObject } from '../../../shared/json/json-object.ts';
import type { Client } from '../gateway/client.ts';
import { el, toSpan, useNow, useValue } from '../view.ts';

export function FailureNotice(props: { failure: GatewayError; onRetry?: (() => void) | undefined }): VNode {
  const { failure, onRetry } = props;
  const { reason, message, requestId, data } = failure;
  // The message of a failure with one issue is that issue.
  const issues = toIssues(data.issues).filter((issue) => issue.message !== message);
  const hint = typeof data.hint === 'string' ? data.hint : toHint(failure);
  return el(
    'div',
    { class: 'notice bad', role: 'alert' },
    el('p', null, el('strong', null, message), ' ', el('code', null, reason)),
    hint && el('p', null, hint),
    issues.length > 0 &&
      el(
        'ul',
        null,
        // A message may begin with the path itself.
        ...issues.map(({ path, message }) =>
          message.startsWith(path) ? el('li', null, message) : el('li', null, el('code', null, path), ' ', message),
        ),
      ),
    requestId && el('p', { class: 'quiet' }, `Request ${requestId}`),
    onRetry && el('button', { type: 'button', onClick: onRetry }, 'Try again'),
  );
}

/** `error.data.issues` of the gateway: what is wrong with which param. */
function toIssues(issues: unknown): { readonly path: string; readonly message: string }[] {
  if (!Array.isArray(issues)) return [];
  return issues.filter(isObject).map(({ path, message }) => ({ path: String(path), message: String(message) }));
}

/** The advice for a failure, where the gateway sent none. */
function toHint({ reason, data }: GatewayError): string | undefined {
  switch (reason) {
    case 'forbidden':
      if ('missing_scope' in data) return 'Another key may be allowed to do this.';
      return 'disabled' in data || 'disabled_by' in data ? 'No key is allowed to do this here.' : undefined;
    case 'session_busy':
      return 'A turn of this session is running: wait for it or cancel it.';
    case 'network':
    case 'timeout':
      return 'Is the gateway running? Nothing is lost: try again.';
    case 'upstream_error':
      // MCP servers and backends fail with this reason, too.
      return 'provider' in data ? 'The model’s provider refused or failed.' : undefined;
    default:
      return undefined;
  }
}

/** Milliseconds for which calls are refused; counts down. */
export function useBlockedMs({ limits }: Client): number {
  const untilMs = useValue(limits.blockedUntilMs);
  const nowMs = useNow(untilMs > Date.now());
  return Math.max(0, untilMs - nowMs);
}

/** Shown above every page: the rate limit, and the lost connection. */
export function Banners({ client }: { client: Client }): VNode {
  const link = useValue(client.link);
  const blockedMs = useBlockedMs(client);
  return el(
    'div',
    { class: 'banners', role: 'status' },
    blockedMs > 0 &&
      el('p', { class: 'notice warn' }, `Rate limited: this key may call again in ${toSpan(blockedMs)}.`),
    link === 'reconnecting' &&
      el(
        'p',
        { class: 'notice warn' },
        'The connection was cut. Reconnecting … ',
        el('button', { type: 'button', onClick: () => client.reconnect() }, 'Now'),
      ),
  );
}

export function Empty({ title, text }: { title: string; text: string }): VNode {
  return el('div', { class: 'empty' }, el('h2', null, title), el('p', null, text));
}

export function Loading({ what }: { what: string }): VNode {
  return el('p', { class: 'quiet loading', role: 'status' }, `Loading ${what} …`);
}
