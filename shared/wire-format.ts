// Fields of protobuf messages, for the few messages that are encoded and decoded by hand
// (https://protobuf.dev/programming-guides/encoding/).
import { BinaryReader, type BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

export function writeText(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

export function writeBytes(writer: BinaryWriter, field: number, value: Uint8Array): void {
  writer.tag(field, WireType.LengthDelimited).bytes(value);
}

/** A message in a field; `write` writes its content. */
export function writeMessage(writer: BinaryWriter, field: number, write: () => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write();
  writer.join();
}

/** Calls `read` for each field of a whole message. */
export function readWhole(bytes: Uint8Array, read: (reader: BinaryReader, field: number) => boolean): void {
  const reader = new BinaryReader(bytes);
  readFields(reader, reader.len, (field) => read(reader, field));
}

/** Calls `read` for each field of the message that begins at the reader's position. */
export function readNested(reader: BinaryReader, read: (field: number) => boolean): void {
  readFields(reader, endOf(reader), read);
}

/** Calls `read` for each field until `end`; it reads the field, or returns false, so that the field is skipped. */
export function readFields(reader: BinaryReader, end: number, read: (field: number) => boolean): void {
  while (reader.pos < end) {
    const [field, type] = reader.tag();
    if (!read(field)) reader.skip(type, field);
  }
}

/** The position at which the message ends that begins at the reader's position. */
export function endOf(reader: BinaryReader): number {
  const length = reader.uint32();
  return reader.pos + length;
}
