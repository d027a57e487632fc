// Runs a call of a method form and reports what is received, until the answer or until it is stopped.
import { useEffect, useState } from 'preact/hooks';
import type { Notification } from '../../../shared/client/events.ts';
import { METHODS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import { Anything } from '../gateway/results.ts';
import { subscribe } from '../gateway/subscription.ts';
import type { Answer } from './answer-view.ts';

const NOTIFICATIONS_MAX = 500;

export interface MethodCall {
  readonly method: string;
  readonly params: object;
  /** Over the WebSocket, with events. */
  readonly streams: boolean;
}

/** `stop`: present while a call runs. */
export function useMethodCall(client: Client): {
  readonly answer: Answer | undefined;
  readonly stop: (() => void) | undefined;
  readonly run: (call: MethodCall) => Promise<void>;
} {
  const [running, setRunning] = useState<AbortController>();
  const [answer, setAnswer] = useState<Answer>();
  useEffect(() => () => running?.abort(), [running]);

  const run = async (call: MethodCall): Promise<void> => {
    const control = new AbortController();
    setRunning(control);
    setAnswer(undefined);
    await runMethod(client, call, control.signal, setAnswer);
    setRunning(undefined);
  };
  return { answer, run, stop: running && (() => running.abort()) };
}

async function runMethod(
  client: Client,
  { method, params, streams }: MethodCall,
  signal: AbortSignal,
  onAnswer: (answer: Answer) => void,
): Promise<void> {
  const notifications: string[] = [];
  const startedMs = performance.now();
  const show = (rest: Partial<Answer>): void =>
    onAnswer({ ms: performance.now() - startedMs, text: '', notifications: [...notifications], ...rest });
  const onNotification = ({ method, params }: Notification): void => {
    if (notifications.push(JSON.stringify({ method, params })) > NOTIFICATIONS_MAX) notifications.shift();
    show({});
  };
  try {
    if (streams && method === METHODS.subscribe) return await subscribe(client, params, onNotification, signal);
    const result = streams
      ? await client.stream(Anything, method, params, onNotification, signal)
      : await client.call(Anything, method, params, signal);
    show({ text: JSON.stringify(result, null, 2) });
  } catch (error) {
    show({ failure: toFailure(error) });
  }
}
