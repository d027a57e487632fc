// The one WebSocket of the page, and its state as a value.
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import type { Endpoint } from '../../../shared/client/transport/http.ts';
import { KeptSocket, type SocketState } from '../../../shared/client/transport/kept-socket.ts';
import { PATHS } from '../../../shared/protocol.ts';
import { createValue } from '../view.ts';

/** `observe` receives the error of every attempt to connect. */
export function connectSocket(endpoint: Endpoint, observe: (error: unknown) => GatewayError) {
  const link = createValue<SocketState>('connecting');
  const socket = new KeptSocket({
    endpoint,
    socketUrl: socketUrl(),
    Socket: WebSocket,
    onState: (state) => link.set(state),
    onError: observe,
  });
  // Reconnects at once when the machine wakes up or is online again, without waiting for the timer or for TCP.
  const onOnline = (): void => {
    if (socket.state === 'reconnecting') socket.retry();
  };
  const onOffline = (): void => socket.cut();
  window.addEventListener('online', onOnline);
  window.addEventListener('offline', onOffline);
  const close = (): void => {
    window.removeEventListener('online', onOnline);
    window.removeEventListener('offline', onOffline);
    socket.close();
  };
  return { link, socket, close };
}

/** The URL that the build wrote into the page, or `/ws` of this origin. */
function socketUrl(): string {
  const configured = document.querySelector<HTMLMetaElement>('meta[name="gateway-socket"]')?.content;
  if (configured) return configured;
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${PATHS.socket}`;
}
