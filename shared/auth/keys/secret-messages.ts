// The messages of google.cloud.secretmanager.v1 that are used, without fields that are never read or written.
import { type BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import type { GrpcMethod } from '../../grpc-channel.ts';
import { readNested, readWhole, writeBytes, writeMessage, writeText } from '../../wire-format.ts';

/** A version, as the service returns it. */
interface StoredVersion {
  readonly name: string;
  readonly etag: string;
  readonly isEnabled: boolean;
}

interface ListRequest {
  readonly parent: string;
  readonly pageSize: number;
  readonly pageToken: string;
}

interface ListResponse {
  readonly versions: readonly StoredVersion[];
  readonly nextPageToken: string;
}

const SERVICE = '/google.cloud.secretmanager.v1.SecretManagerService';
/** Of the enum SecretVersion.State. */
const ENABLED = 1;

/** The enabled versions of a secret. */
export const listVersions: GrpcMethod<ListRequest, ListResponse> = {
  path: `${SERVICE}/ListSecretVersions`,
  routeOf: ({ parent }) => ['parent', parent],
  encode({ parent, pageSize, pageToken }) {
    const writer = new BinaryWriter();
    writeText(writer, 1, parent);
    writer.tag(2, WireType.Varint).int32(pageSize);
    writeText(writer, 3, pageToken);
    writeText(writer, 4, 'state:ENABLED');
    return writer.finish();
  },
  decode(bytes) {
    const versions: StoredVersion[] = [];
    let nextPageToken = '';
    readWhole(bytes, (reader, field) => {
      if (field === 1) versions.push(readVersion((read) => readNested(reader, (inner) => read(reader, inner))));
      if (field === 2) nextPageToken = reader.string();
      return field === 1 || field === 2;
    });
    return { versions, nextPageToken };
  },
};

/** The payload of a version. */
export const accessVersion: GrpcMethod<{ readonly name: string }, Uint8Array> = {
  path: `${SERVICE}/AccessSecretVersion`,
  routeOf: ({ name }) => ['name', name],
  encode({ name }) {
    const writer = new BinaryWriter();
    writeText(writer, 1, name);
    return writer.finish();
  },
  decode(bytes) {
    let data: Uint8Array = new Uint8Array();
    readWhole(bytes, (reader, field) => {
      if (field !== 2) return false;
      readNested(reader, (inner) => {
        if (inner === 1) data = reader.bytes();
        return inner === 1;
      });
      return true;
    });
    return data;
  },
};

export const addVersion: GrpcMethod<{ readonly parent: string; readonly payload: Uint8Array }, StoredVersion> = {
  path: `${SERVICE}/AddSecretVersion`,
  routeOf: ({ parent }) => ['parent', parent],
  encode({ parent, payload }) {
    const writer = new BinaryWriter();
    writeText(writer, 1, parent);
    writeMessage(writer, 2, () => writeBytes(writer, 1, payload));
    return writer.finish();
  },
  decode: decodeVersion,
};

export const disableVersion: GrpcMethod<{ readonly name: string; readonly etag: string }, StoredVersion> = {
  path: `${SERVICE}/DisableSecretVersion`,
  routeOf: ({ name }) => ['name', name],
  encode({ name, etag }) {
    const writer = new BinaryWriter();
    writeText(writer, 1, name);
    writeText(writer, 2, etag);
    return writer.finish();
  },
  decode: decodeVersion,
};

type ReadField = (reader: BinaryReader, field: number) => boolean;

function decodeVersion(bytes: Uint8Array): StoredVersion {
  return readVersion((read) => readWhole(bytes, read));
}

/** `each` calls its argument for each field of the version. */
function readVersion(each: (read: ReadField) => void): StoredVersion {
  let name = '';
  let etag = '';
  let state = 0;
  each((reader, field) => {
    if (field === 1) name = reader.string();
    else if (field === 4) state = reader.int32();
    else if (field === 6) etag = reader.string();
    else return false;
    return true;
  });
  return { name, etag, isEnabled: state === ENABLED };
}
