// The names of the protocol are written once: in shared/protocol.ts and, for methods, in their definitions.
import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import * as methods from '../../shared/methods/index.ts';
import { HEADERS, METHODS, NOTIFICATIONS, SUBPROTOCOL, TICKET_PREFIX, ticketProtocols } from '../../shared/protocol.ts';

const ROOT = resolve(import.meta.dirname, '../..');

it('METHODS names only methods that the gateway has', () => {
  const known = Object.values(methods).map(({ name }) => name);
  expect(known).toEqual(expect.arrayContaining(Object.values(METHODS)));
});

it('a WebSocket is opened with the two subprotocols that are documented', () => {
  expect(ticketProtocols('secret')).toEqual(['gateway.v1', 'gateway.ticket.secret']);
});

it('shared/protocol.ts alone spells out a subprotocol, a header of the gateway or a notification', () => {
  const names = [
    SUBPROTOCOL,
    TICKET_PREFIX,
    ...Object.values(NOTIFICATIONS).filter((name) => name.includes('.')),
    ...Object.values(HEADERS),
  ];
  const literal = new RegExp(`['"](${names.map((name) => name.replaceAll('.', '\\.')).join('|')})['"]`);
  const found = globSync('{functions,shared}/**/*.ts', { cwd: ROOT })
    .filter((file) => file !== 'shared/protocol.ts')
    .flatMap((file) =>
      readFileSync(resolve(ROOT, file), 'utf8')
        .split('\n')
        .filter((line) => literal.test(line))
        .map((line) => `${file}: ${line.trim()}`),
    );
  expect(found).toEqual([]);
});
