// `rpc.discover`: the OpenRPC document of this deployment (https://spec.open-rpc.org/#service-discovery-method).
import { z } from 'zod';
import { toOpenRpc } from '../rpc/openrpc.ts';
import { VERSION } from '../version.ts';
import { defineMethod } from './define-method.ts';

/** Created at the first request, because the schemas take milliseconds of a cold start. */
const documents = new WeakMap<object, Record<string, unknown>>();

export const rpcDiscover = defineMethod({
  name: 'rpc.discover',
  summary: 'Returns every method as an OpenRPC document; costs no call',
  scope: null,
  cost: 'free',
  params: z.strictObject({}),
  result: z.record(z.string(), z.unknown()),
  example: {
    params: {},
    result: { openrpc: '1.4.0', info: { title: 'Codex Gateway', version: VERSION }, methods: [] },
  },
  async handle(_params, { registry, services }) {
    const known = documents.get(registry);
    if (known !== undefined) return known;
    // A deployment with a companion has its sandbox there.
    const sandbox = services.config.companion.url === undefined ? await services.commands.available() : undefined;
    const unavailable = sandbox?.ok === false ? { sandbox: `${sandbox.reason}; ${sandbox.hint}` } : {};
    const made = toOpenRpc(registry, VERSION, unavailable);
    documents.set(registry, made);
    return made;
  },
});
