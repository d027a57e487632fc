// Converts the title, the metadata and the preview of a session between their stored and their returned form. Metadata
// is stored as JSON text, since a document restricts the names of its fields, and as `labels`: one hash for each key
// and value, by which one index finds the sessions of any key.
import { z } from 'zod';
import { IMAGE_TOKENS } from '../../messages/estimate-tokens.ts';
import { truncateText } from '../../messages/text.ts';
import { type ConversationDocument, HEAD_CHARS, hashId, type StoredMessage } from './documents.ts';

/** UTF-16 units. */
const DEFAULT_TITLE_CHARS = 80;
/** 132 bits: short in the index, and no two pairs share a label in practice. */
const LABEL_CHARS = 22;

export type Metadata = Readonly<Record<string, string>>;

const StoredMetadata = z.record(z.string(), z.string());

/** Absent: unchanged; null: removed. */
export interface SessionChanges {
  readonly title?: string | null | undefined;
  readonly metadata?: Metadata | null | undefined;
  readonly retentionDays?: number | null | undefined;
}

export function withChanges(conversation: ConversationDocument, changes: SessionChanges): ConversationDocument {
  const { title, metadata, retentionDays } = changes;
  const {
    title: titleBefore,
    metadata: metadataBefore,
    labels: labelsBefore,
    retention_days,
    ...others
  } = conversation;
  const newTitle = title === undefined ? titleBefore : title?.toWellFormed();
  const pairs = metadata === undefined ? undefined : Object.entries(metadata ?? {});
  const days = retentionDays === undefined ? retention_days : retentionDays;
  return {
    ...others,
    ...(newTitle !== undefined && { title: newTitle }),
    ...(pairs === undefined && metadataBefore !== undefined && { metadata: metadataBefore }),
    ...(pairs === undefined && labelsBefore !== undefined && { labels: labelsBefore }),
    ...(pairs?.length && { metadata: JSON.stringify(metadata), labels: pairs.map((pair) => toLabel(...pair)) }),
    ...(typeof days === 'number' && { retention_days: days }),
  };
}

export function toLabel(key: string, value: string): string {
  return hashId(key, value).slice(0, LABEL_CHARS);
}

export function metadataOf({ metadata }: ConversationDocument): Metadata | undefined {
  return metadata === undefined ? undefined : StoredMetadata.parse(JSON.parse(metadata));
}

/** Whether the session has all pairs of `wanted`. */
export function hasMetadata(conversation: ConversationDocument, wanted: Metadata): boolean {
  const metadata = new Map(Object.entries(metadataOf(conversation) ?? {}));
  return Object.entries(wanted).every(([key, value]) => metadata.get(key) === value);
}

/**
 * The title of the caller, else the start of the first prompt with a text, else that there are images; undefined in a
 * session without any.
 */
export function titleOf({ title, default_title, recent }: ConversationDocument): string | undefined {
  const images = recent.find((message) => imagesOf(message) !== undefined);
  return title ?? default_title ?? (images && imagesOf(images));
}

/** A prompt without a text has images only. */
function imagesOf(message: StoredMessage): string | undefined {
  const { role, tokens } = message;
  if (role !== 'user' || tokens === undefined || startOf(message) !== '') return undefined;
  return tokens > IMAGE_TOKENS ? 'Images' : 'Image';
}

/**
 * Sets the default title before the message of `prompt` is added. A session without one, of an older version or begun
 * with images only, gets it from its first text while all messages before that are in the document.
 */
export function withDefaultTitle(conversation: ConversationDocument, prompt: string): ConversationDocument {
  const { default_title, message_count, recent } = conversation;
  if (default_title !== undefined) return conversation;
  const isComplete = message_count === 0 || recent[0]?.seq === 1;
  const first = titlingPrompt(conversation);
  const title = toTitle(first === undefined ? (isComplete ? prompt : '') : startOf(first));
  return title === '' ? conversation : { ...conversation, default_title: title };
}

/** The first prompt with a text; undefined if the document does not contain the messages from the first one on. */
export function titlingPrompt({ recent }: Pick<ConversationDocument, 'recent'>): StoredMessage | undefined {
  if (recent[0]?.seq !== 1) return undefined;
  return recent.find((message) => message.role === 'user' && startOf(message) !== '');
}

/** The start of the newest message. */
export function previewOf({ recent }: ConversationDocument): string | undefined {
  const newest = recent.at(-1);
  return newest && (imagesOf(newest) ?? (truncateText(startOf(newest), HEAD_CHARS) || undefined));
}

function startOf({ head, content }: StoredMessage): string {
  return head ?? content;
}

function toTitle(prompt: string): string {
  return truncateText(prompt.trimStart(), DEFAULT_TITLE_CHARS).toWellFormed();
}
