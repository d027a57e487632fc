// The list of methods, and the form of the selected one, from rpc.discover.
import { type ComponentChild, h } from 'preact';
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import { Discovery, type MethodDescription } from '../gateway/results.ts';
import { Empty, FailureNotice, Loading } from '../page/notice.ts';
import { el } from '../view.ts';
import { MethodForm } from './method-form.ts';

export function Methods({ client, selected }: { client: Client; selected: string | undefined }): ComponentChild {
  const [methods, setMethods] = useState<readonly MethodDescription[]>();
  const [failure, setFailure] = useState<GatewayError>();
  const load = useCallback(async () => {
    setFailure(undefined);
    try {
      setMethods((await client.call(Discovery, METHODS.discover)).methods);
    } catch (error) {
      setFailure(toFailure(error));
    }
  }, [client]);
  useEffect(() => void load(), [load]);
  if (failure !== undefined) return h(FailureNotice, { failure, onRetry: () => void load() });
  if (methods === undefined) return h(Loading, { what: 'the methods' });
  const method = methods.find(({ name }) => name === selected);
  return el(
    'div',
    { class: 'methods' },
    el(
      'details',
      { class: 'sessions', open: matchMedia('(min-width: 50rem)').matches },
      el('summary', null, `${methods.length} methods`),
      el(
        'ul',
        null,
        ...methods.map(({ name, 'x-unavailable-reason': reason }) =>
          el(
            'li',
            { key: name },
            el(
              'a',
              { href: `#/methods/${name}`, 'aria-current': name === selected ? 'page' : undefined },
              name,
              reason !== undefined && el('span', { class: 'tag', title: reason }, 'not here'),
            ),
          ),
        ),
      ),
    ),
    method === undefined
      ? h(Empty, {
          title: 'Choose a method',
          text: 'Each method has a form that is generated from its schema, and a curl line to copy.',
        })
      : h(MethodForm, { key: method.name, client, method }),
  );
}
