// Stops a turn of Codex whose reader has stopped.
import { deadline } from '../../async.ts';
import type { TurnTranslation } from './events/translate.ts';
import type { Inbox } from './inbox.ts';
import { CodexRefusal } from './protocol/client.ts';
import type { RequestedCommands } from './relay/requested-commands.ts';
import type { AppServer } from './threads/app-servers.ts';

/** From the request to stop a turn to the end of its process. */
const INTERRUPT_MS = 3_000;

export interface OpenTurn {
  readonly threadId: string;
  readonly translation: TurnTranslation;
  readonly inbox: Inbox;
  readonly commands: RequestedCommands;
}

/**
 * Stops the turn, and with it the call to the provider and its commands. An app-server that does not stop it, or does
 * not report a command that it starts, is ended.
 */
export async function interrupt(
  { client, session }: AppServer,
  { threadId, translation, inbox, commands }: OpenTurn,
): Promise<void> {
  const { turnId } = translation;
  const within = deadline(INTERRUPT_MS);
  commands.hold();
  try {
    await commands.settled(within);
    await client.request('turn/interrupt', { threadId, turnId }, within).catch((error: unknown) => {
      // "no active turn to interrupt": it has just ended by itself.
      if (!(error instanceof CodexRefusal)) throw error;
    });
    while (translation.ended === undefined) {
      const item = await inbox.next(within);
      if (!('event' in item)) translation.toEvents(item);
    }
    // Codex leaves the commands of an interrupted turn running.
    await client.request('thread/backgroundTerminals/clean', { threadId }, within);
  } catch {
    await session.end();
  }
}
