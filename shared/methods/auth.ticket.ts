// `auth.ticket`: issues a ticket with which a browser, which cannot send headers, opens `/ws`.
import { z } from 'zod';
import { issueTicket } from '../auth/tickets.ts';
import { ticketProtocols } from '../protocol.ts';
import { defineMethod } from './define-method.ts';

const EXAMPLE_TICKET = 'Xn4v1yUO0mVQ8m2nJv0H9tq3cR5sT7uW1xY3zA5bC7d';

export const authTicket = defineMethod({
  name: 'auth.ticket',
  summary: 'Issues a single-use ticket, valid for 30 seconds, that opens one WebSocket',
  scope: null,
  cost: 'work',
  params: z.strictObject({}),
  result: z.object({
    ticket: z.string(),
    expires_at: z.string().describe('ISO 8601'),
    protocols: z.array(z.string()).describe('For `new WebSocket(url, protocols)`'),
  }),
  errors: ['unavailable'],
  example: {
    params: {},
    result: {
      ticket: EXAMPLE_TICKET,
      expires_at: '2026-11-13T14:20:30.000Z',
      protocols: ticketProtocols(EXAMPLE_TICKET),
    },
  },
  async handle(_params, { services, caller, signal }) {
    const { ticket, expiresAtMs } = await issueTicket(services, caller, signal);
    return {
      ticket,
      expires_at: new Date(expiresAtMs).toISOString(),
      protocols: ticketProtocols(ticket),
    };
  },
});
