// The ticket with which a WebSocket is opened where its request cannot carry the key.
import { isObject } from '../../json/json-object.ts';
import { METHODS } from '../../protocol.ts';
import { callOnce, type Endpoint } from './http.ts';

/** The subprotocols with a fresh ticket, which is valid for one WebSocket. */
export async function requestTicket(endpoint: Endpoint, signal: AbortSignal): Promise<string[]> {
  const result = await callOnce(endpoint, { method: METHODS.ticket, params: {}, signal });
  return isObject(result) && Array.isArray(result.protocols) ? result.protocols.map(String) : [];
}
