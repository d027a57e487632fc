// A connection watches a terminal once, although the terminals take time to answer: where they run elsewhere, watching
// is a call to another process.
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import type { Connection } from '../../../shared/methods/define-method.ts';
import { type WatchContext, watchTerminal, watchUnlessWatched } from '../../../shared/methods/watch-terminal.ts';
import type { Terminals, Watcher } from '../../../shared/terminals/terminals.ts';

interface Watch {
  readonly watcher: Watcher;
  readonly afterSeq: number;
  begin(): void;
  fail(): void;
  hasLeft: boolean;
}

function openFixture() {
  const watches: Watch[] = [];
  const notified: unknown[] = [];
  const connection: Connection = {
    signal: new AbortController().signal,
    streams: new Map(),
    afterReply: (work) => work(),
  };
  const missing = async () => {
    throw new RpcError('not_found');
  };
  const terminals: Terminals = {
    ...{ start: missing, input: missing, resize: missing, close: missing, drain: missing },
    watch(_handle, watcher, afterSeq) {
      const { promise, resolve, reject } = Promise.withResolvers<() => void>();
      const watch: Watch = {
        watcher,
        afterSeq,
        hasLeft: false,
        begin: () =>
          resolve(() => {
            watch.hasLeft = true;
          }),
        fail: () => reject(new RpcError('not_found')),
      };
      watches.push(watch);
      return promise;
    },
  };
  const context: WatchContext = {
    services: { terminals },
    caller: { keyId: 'a' },
    connection,
    notify: (method, params) => void notified.push([method, params]),
  };
  return { watches, notified, connection, context };
}

/** Resolves after all handlers of settled promises have run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('a terminal is left when its watch begins after the connection has ended', async () => {
  const { watches, connection, context } = openFixture();
  watchTerminal(connection, context, 's', 0);
  for (const stop of connection.streams.values()) stop();
  watches[0]?.begin();
  await settled();
  expect(watches.map(({ hasLeft }) => hasLeft)).toEqual([true]);
});

it('a terminal is watched once: a second call replaces the first, in whichever order they begin', async () => {
  const { watches, connection, context } = openFixture();
  watchTerminal(connection, context, 's', 0);
  watchTerminal(connection, context, 's', 7);
  for (const { begin } of watches.toReversed()) begin();
  await settled();
  watchUnlessWatched(context, 's');
  expect(watches.map(({ afterSeq, hasLeft }) => [afterSeq, hasLeft])).toEqual([
    [0, true],
    [7, false],
  ]);
});

it('a terminal is watched anew by the next call when watching has failed, and when the terminal has exited', async () => {
  const { watches, notified, connection, context } = openFixture();
  watchTerminal(connection, context, 's', 0);
  watches[0]?.fail();
  await settled();
  watchUnlessWatched(context, 's');
  expect(watches).toHaveLength(2);
  watches[1]?.begin();
  await watches[1]?.watcher.exit(3);
  expect(notified).toEqual([['interactive.exit', { session_id: 's', exit_code: 3 }]]);
  watchUnlessWatched(context, 's');
  expect(watches).toHaveLength(3);
});
