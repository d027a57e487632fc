// Pulls events from a Pub/Sub subscription, for processes that have no push endpoint: a local gateway on the emulator.
// In the cloud Pub/Sub pushes to the deployments function (functions/deployments).
import type { Message, PubSub } from '@google-cloud/pubsub';
import { deadline } from '../../async.ts';
import { GRPC, statusOf } from '../../grpc/grpc-status.ts';
import { errorFields, type Logger } from '../../log.ts';
import { inTrace } from '../../telemetry/trace.ts';
import { fromMessage, traceOf } from './cloud-event.ts';
import type { Subscriber } from './local-bus.ts';
import { openPubsub, type PubsubOptions } from './pubsub.ts';

const HANDLER_TIMEOUT_MS = 10_000;
const CREATE_TIMEOUT_MS = 5_000;
const IN_FLIGHT_MAX = 32;

export interface PullOptions extends PubsubOptions {
  readonly subscription: string;
  readonly subscriber: Subscriber;
  readonly log: Logger;
}

/**
 * Starts pulling; resolves with the function that stops it, once messages can arrive. Creates missing topics and
 * subscriptions on the emulator. If the subscriber throws, the message is delivered again; a message that is no event
 * is logged and acknowledged.
 */
export async function startPull(options: PullOptions): Promise<() => Promise<void>> {
  const client = await openPubsub(options);
  if (options.emulatorHost !== undefined) await create(client, options);
  const subscription = client.subscription(options.subscription, {
    flowControl: { maxMessages: IN_FLIGHT_MAX, allowExcessMessages: false },
  });
  subscription.on('error', (error) => options.log.warn('pull failed', errorFields(error)));
  subscription.on('message', (message: Message) => {
    void inTrace(traceOf(message.attributes), () => take(message, options));
  });
  return async () => {
    await subscription.close();
    await client.close();
  };
}

async function take(message: Message, { subscriber, log }: PullOptions): Promise<void> {
  try {
    const event = fromMessage(message);
    await subscriber(event, { signal: deadline(HANDLER_TIMEOUT_MS) }).then(
      () => message.ack(),
      (error: unknown) => {
        log.warn('subscriber failed', { event_id: event.id, ...errorFields(error) });
        message.nack();
      },
    );
  } catch (error) {
    log.error('message is no event', { message_id: message.id, ...errorFields(error) });
    message.ack();
  }
}

async function create(client: PubSub, { topic, subscription }: PullOptions): Promise<void> {
  const gaxOpts = { timeout: CREATE_TIMEOUT_MS };
  const ifMissing = (error: unknown): void => {
    if (statusOf(error) !== GRPC.alreadyExists) throw error;
  };
  await client.topic(topic).create(gaxOpts).catch(ifMissing);
  const options = { enableMessageOrdering: true, gaxOpts };
  await client.topic(topic).createSubscription(subscription, options).catch(ifMissing);
}
