// The EventBus on Google Cloud Pub/Sub. The SDK is imported at the first publish; one message per request, in order per
// service, with a deadline of seconds instead of the SDK's ten minutes.
import type { PubSub, Topic } from '@google-cloud/pubsub';
import { RpcError } from '../../errors.ts';
import { CHANNEL_OPTIONS, createGrpcClient, EMULATOR_CHANNEL_OPTIONS } from '../../grpc/grpc-client.ts';
import { GRPC, statusOf } from '../../grpc/grpc-status.ts';
import type { EventBus } from '../event.ts';
import { toMessage } from './cloud-event.ts';

/** Deadline of a publish, including the wait for earlier messages of the same ordering key. */
const PUBLISH_TIMEOUT_MS = 5_000;
const PING_TIMEOUT_MS = 3_000;

/**
 * The SDK's deadline is shorter than the gateway's. By default it retries for ten minutes, which would block the
 * ordering key.
 */
const CALL_OPTIONS = {
  timeout: 2_000,
  retry: {
    retryCodes: [GRPC.unavailable, GRPC.internal, GRPC.deadlineExceeded],
    backoffSettings: {
      initialRetryDelayMillis: 50,
      retryDelayMultiplier: 2,
      maxRetryDelayMillis: 500,
      initialRpcTimeoutMillis: 2_000,
      rpcTimeoutMultiplier: 1,
      maxRpcTimeoutMillis: 2_000,
      totalTimeoutMillis: 2_500,
    },
  },
};

export interface PubsubOptions {
  readonly projectId: string;
  /** Name of the topic, without `projects/.../topics/`. */
  readonly topic: string;
  /**
   * `host:port` of the emulator. A missing topic is created on the emulator only; in the cloud Terraform creates it.
   */
  readonly emulatorHost?: string | undefined;
}

export interface PubsubBus extends EventBus {
  /** Starts the import and the connection early, for instances that will publish. */
  warm(): Promise<void>;
}

interface OpenTopic {
  readonly client: PubSub;
  readonly topic: Topic;
}

/** Publishes to one topic. Errors: RpcError `unavailable` with the cause; the signal's reason when aborted. */
export function createPubsubBus(options: PubsubOptions): PubsubBus {
  const grpc = createGrpcClient({
    open: () => openTopic(options),
    close: ({ client }) => client.close(),
  });
  let topicMade: Promise<void> | undefined;

  const send = async ({ topic }: OpenTopic, message: ReturnType<typeof toMessage>): Promise<string> => {
    try {
      return await topic.publishMessage(message);
    } catch (error) {
      // After a failure the SDK refuses all later messages of the ordering key. Publishing resumes, because subscribers
      // order events by their time.
      topic.resumePublishing(message.orderingKey);
      throw error;
    }
  };

  /** The emulator loses its topics at every restart. */
  const makeTopic = async ({ topic }: OpenTopic): Promise<void> => {
    await topic.create(CALL_OPTIONS).catch((error: unknown) => {
      if (statusOf(error) !== GRPC.alreadyExists) throw error;
    });
  };

  const publish = async (opened: OpenTopic, message: ReturnType<typeof toMessage>): Promise<string> => {
    try {
      return await send(opened, message);
    } catch (error) {
      if (options.emulatorHost === undefined || statusOf(error) !== GRPC.notFound) throw error;
      topicMade ??= makeTopic(opened).finally(() => {
        topicMade = undefined;
      });
      await topicMade;
      return await send(opened, message);
    }
  };

  return {
    warm: () => grpc.open(),
    async publish(event, { signal } = {}) {
      try {
        const bounds = { signal, timeoutMs: PUBLISH_TIMEOUT_MS };
        const messageId = await grpc.run(bounds, (opened) => publish(opened, toMessage(event)));
        return { messageId };
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new RpcError('unavailable', { message: 'the event bus does not accept events', cause: shortened(error) });
      }
    },
    async ping({ signal } = {}) {
      try {
        await grpc.run({ signal, timeoutMs: PING_TIMEOUT_MS }, ({ topic }) => topic.getMetadata(CALL_OPTIONS));
      } catch (error) {
        if (signal?.aborted) throw error;
        // A publisher may lack the permission to read the topic; the refusal shows that Pub/Sub answers.
        if (statusOf(error) === GRPC.permissionDenied) return;
        if (options.emulatorHost !== undefined && statusOf(error) === GRPC.notFound) return;
        throw new RpcError('unavailable', { message: 'Pub/Sub does not answer', cause: shortened(error) });
      }
    },
    close: () => grpc.close(),
  };
}

/** A client for the project, on the emulator or the cloud. */
export async function openPubsub(options: Pick<PubsubOptions, 'projectId' | 'emulatorHost'>): Promise<PubSub> {
  const { PubSub } = await import('@google-cloud/pubsub');
  return new PubSub({
    projectId: options.projectId,
    ...(options.emulatorHost === undefined
      ? CHANNEL_OPTIONS
      : { ...EMULATOR_CHANNEL_OPTIONS, apiEndpoint: options.emulatorHost, emulatorMode: true }),
  });
}

/** Shortens the SDK's message, which repeats the error of every attempt. */
function shortened(error: unknown): Error {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new Error(text.slice(0, 300));
}

async function openTopic(options: PubsubOptions): Promise<OpenTopic> {
  const client = await openPubsub(options);
  const topic = client.topic(options.topic, {
    messageOrdering: true,
    batching: { maxMessages: 1, maxMilliseconds: 0 },
    gaxOpts: CALL_OPTIONS,
  });
  return { client, topic };
}
