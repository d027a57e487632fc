// The binary side of a socket, as a client generated from gateway.proto has it: submissions out, frames in.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type Frame, FrameSchema, type SubmissionSchema } from '../../../shared/proto/gateway_pb.ts';
import type { Client } from './stage.ts';

export interface ReceivedFrame {
  readonly bytes: Buffer;
  readonly frame: Frame;
}

export interface BinaryClient {
  /** All frames so far, in order. */
  readonly received: ReceivedFrame[];
  send(bytes: Uint8Array): void;
  submit(id: string, streamId: string, submission: MessageInitShape<typeof SubmissionSchema>): void;
  /** Resolves to the first frame, past or future, that matches; rejects when the connection ends before. */
  until(matches: (frame: Frame) => boolean): Promise<ReceivedFrame>;
  /** Resolves to the reply or the error of this id. */
  answer(id: string): Promise<ReceivedFrame>;
}

export function submission(
  id: string,
  streamId: string,
  value: MessageInitShape<typeof SubmissionSchema>,
): Uint8Array<ArrayBuffer> {
  return toBinary(FrameSchema, create(FrameSchema, { id, streamId, body: { case: 'submission', value } }));
}

export function binaryOf({ socket }: Client): BinaryClient {
  const received: ReceivedFrame[] = [];
  const waiting = new Set<() => void>();
  let ended = false;
  const wake = (): void => {
    for (const check of [...waiting]) check();
  };
  socket.on('message', (data, isBinary) => {
    if (!isBinary || !Buffer.isBuffer(data)) return;
    received.push({ bytes: data, frame: fromBinary(FrameSchema, data) });
    wake();
  });
  socket.once('close', () => {
    ended = true;
    wake();
  });
  const until: BinaryClient['until'] = (matches) =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const found = received.find(({ frame }) => matches(frame));
        if (found === undefined && !ended) return;
        waiting.delete(check);
        if (found !== undefined) resolve(found);
        else reject(new Error('the connection ended before the frame came'));
      };
      waiting.add(check);
      check();
    });
  return {
    received,
    until,
    send: (bytes) => socket.send(bytes),
    submit: (id, streamId, value) => socket.send(submission(id, streamId, value)),
    answer: (id) =>
      until(({ id: answered, body }) => answered === id && (body.case === 'reply' || body.case === 'error')),
  };
}
