// The messages of a session, read from conversation.history page by page as they are taken.
import type { Methods } from './methods.ts';
import type { CallOptions } from './options.ts';

type History = Methods['conversation.history'];

/** A message as conversation.history returns it. */
export type HistoryMessage = History['result']['messages'][number];

export interface MessagesOptions extends CallOptions {
  /** Default: oldest first. */
  readonly order?: 'oldest' | 'newest';
}

const PAGE = 100;

/** `read` returns one page. */
export async function* readMessages(
  read: (params: History['params']) => Promise<History['result']>,
  params: Pick<History['params'], 'session_id' | 'order'>,
): AsyncGenerator<HistoryMessage, void, void> {
  let cursor: string | undefined;
  do {
    const page = await read({ ...params, limit: PAGE, ...(cursor !== undefined && { cursor }) });
    yield* page.messages;
    cursor = page.next_cursor;
  } while (cursor !== undefined);
}
