// The key's rate windows as gauges.
import type { VNode } from 'preact';
import type { Client } from '../gateway/client.ts';
import { nameOf, roll } from '../gateway/limits.ts';
import { el, toSpan, useNow, useValue } from '../view.ts';

export function Gauges({ client }: { client: Client }): VNode {
  const windows = useValue(client.limits.windows);
  const nowMs = useNow(true);
  return el(
    'div',
    { class: 'gauges', role: 'group', 'aria-label': 'Calls left' },
    ...windows.map((known) => {
      const window = roll(known, nowMs);
      const share = window.limit === 0 ? 0 : window.remaining / window.limit;
      const name = nameOf(window);
      const resets = `resets in ${toSpan(window.resetMs - nowMs)}`;
      return el(
        'div',
        {
          key: window.seconds,
          class: `gauge${share <= 0.1 ? ' low' : ''}`,
          role: 'meter',
          'aria-label': `Calls left this ${name}`,
          'aria-valuemin': 0,
          'aria-valuemax': window.limit,
          'aria-valuenow': window.remaining,
          'aria-valuetext': `${window.remaining} of ${window.limit}, ${resets}`,
          title: `${window.remaining} of ${window.limit} calls left this ${name}; ${resets}`,
        },
        el('span', null, name),
        el('span', { class: 'bar' }, el('span', { style: { width: `${share * 100}%` } })),
        el('span', { class: 'number' }, window.remaining),
      );
    }),
  );
}
