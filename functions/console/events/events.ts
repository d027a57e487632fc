// The page of webhook events, live, and of the latest deployment per service and region.
import { h, type VNode } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { randomId } from '../../../shared/client/random-id.ts';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import type { DeploymentRow, EventRow } from '../gateway/results.ts';
import { Empty, FailureNotice, Loading } from '../page/notice.ts';
import { el, useValue } from '../view.ts';
import { EventFeed } from './event-feed.ts';

export function EventsPage({ client }: { client: Client }): VNode {
  const feed = useMemo(() => new EventFeed(client), [client]);
  useEffect(() => () => feed.close(), [feed]);
  const { phase, events, deployments, failure, fresh } = useValue(feed.state);
  return el(
    'div',
    { class: 'columns' },
    el(
      'section',
      { 'aria-labelledby': 'events-title' },
      el('h2', { id: 'events-title' }, 'Events ', el('span', { class: `tag ${phase}` }, phase)),
      failure && h(FailureNotice, { failure, onRetry: () => void feed.start() }),
      phase === 'loading' && events.length === 0 && h(Loading, { what: 'events' }),
      phase !== 'loading' &&
        failure === undefined &&
        events.length === 0 &&
        h(Empty, { title: 'No events yet', text: 'Events that are sent to /webhook appear here as they arrive.' }),
      el(
        'ul',
        { class: 'cards', 'aria-live': 'polite' },
        ...events.map((event) => h(EventCard, { key: event.event_id, event, isFresh: fresh.has(event.event_id) })),
      ),
    ),
    el(
      'section',
      { 'aria-labelledby': 'deployments-title' },
      el('h2', { id: 'deployments-title' }, 'Deployments'),
      deployments.length === 0
        ? el('p', { class: 'quiet' }, 'No deployments yet. Deployment events fill this table.')
        : h(DeploymentTable, { rows: deployments }),
      h(TryIt, { client, feed }),
    ),
  );
}

function EventCard({ event, isFresh }: { event: EventRow; isFresh: boolean }): VNode {
  return el(
    'li',
    { class: `card${isFresh ? ' fresh' : ''}` },
    el(
      'details',
      null,
      el(
        'summary',
        null,
        el('strong', null, event.event),
        ' ',
        el('time', { class: 'quiet', dateTime: event.received_at }, new Date(event.received_at).toLocaleTimeString()),
        ' ',
        el('span', { class: 'quiet' }, toSummary(event.data)),
      ),
      el('pre', { tabIndex: 0 }, JSON.stringify(event, null, 2)),
    ),
  );
}

function toSummary(data: unknown): string {
  if (typeof data !== 'object' || data === null) return '';
  const values = Object.values(data).filter((value) => typeof value === 'string' || typeof value === 'number');
  return values.slice(0, 4).join(' · ').slice(0, 160);
}

function DeploymentTable({ rows }: { rows: readonly DeploymentRow[] }): VNode {
  return el(
    'div',
    { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'Deployments' },
    el(
      'table',
      null,
      el(
        'thead',
        null,
        el('tr', null, ...['Service', 'Region', 'Version', 'Status'].map((title) => el('th', { scope: 'col' }, title))),
      ),
      el(
        'tbody',
        null,
        ...rows.map(({ service, region, version, status, updated_at }) =>
          el(
            'tr',
            { key: `${service} ${region}`, title: updated_at },
            el('th', { scope: 'row' }, service),
            el('td', null, region),
            el('td', null, version ?? '-'),
            el('td', null, status),
          ),
        ),
      ),
    ),
  );
}

function TryIt({ client, feed }: { client: Client; feed: EventFeed }): VNode {
  const [failure, setFailure] = useState<GatewayError>();
  const send = async (): Promise<void> => {
    setFailure(undefined);
    const data = {
      service: 'console-test',
      version: randomId().slice(0, 8),
      region: 'us-central1',
      status: 'healthy',
    };
    try {
      await client.deliver({ event: 'deployment.success', timestamp: new Date().toISOString(), data });
      feed.refreshSoon();
    } catch (error) {
      setFailure(toFailure(error));
    }
  };
  return el(
    'div',
    { class: 'try' },
    el('p', { class: 'quiet' }, 'To see one arrive:'),
    el('button', { type: 'button', onClick: () => void send() }, 'Send a test deployment event'),
    failure && h(FailureNotice, { failure }),
  );
}
