// Opens the MCP servers of a session before a prompt runs.
import { deadline, settledWithin } from '../async.ts';
import { RpcError } from '../errors.ts';
import type { Opener } from './opener.ts';
import type { Connected } from './records/documents.ts';
import type { McpRecords } from './records/records.ts';
import type { OpenConnection } from './registry.ts';
import type { SessionServers } from './tools/tools.ts';

/** Deadline for opening all servers of a session. */
const OPEN_MS = 20_000;
/** Deadline for listing the tools again after announced changes. */
const READY_MS = 5_000;

export interface SessionDeps {
  readonly opener: Opener;
  readonly records: McpRecords;
  listOf(owner: string, sessionId: string): Promise<readonly Connected[]>;
}

/**
 * A server that cannot be opened does not fail the prompt; its tools are returned as omitted. Undefined if no server is
 * connected.
 */
export async function openSession(
  { opener, records, listOf }: SessionDeps,
  owner: string,
  sessionId: string,
  signal: AbortSignal,
): Promise<SessionServers | undefined> {
  const entries = await listOf(owner, sessionId);
  if (entries.length === 0) return undefined;
  const within = deadline(OPEN_MS, signal);
  const open: OpenConnection[] = [];
  const omitted: SessionServers['omitted'][number][] = [];
  await Promise.all(
    entries.map(async (entry) => {
      try {
        const connection = await opener.open(owner, entry, within);
        await settledWithin(READY_MS, connection.live.ready());
        void records.renew(owner, entry);
        open.push(connection);
      } catch (error) {
        omitted.push(...(await omittedOf(entry, error)));
      }
    }),
  );
  if (open.length === 0 && (await listOf(owner, sessionId)).length === 0) return undefined;
  // Sorted in the order in which they were connected, so that the model gets the tools in the same order each time.
  const position = ({ id }: OpenConnection): number => entries.findIndex((entry) => entry.id === id);
  open.sort((one, other) => position(one) - position(other));
  const connections = open.map(({ live }) => live.connection);
  return { connections, omitted, restarted: open.flatMap(takeRestarted) };

  /** The stored tools of a server that cannot be opened, with the reason. */
  async function omittedOf(entry: Connected, error: unknown) {
    const stored = await records.read(owner, entry).catch(() => undefined);
    const reason = `the server cannot be reached: ${error instanceof RpcError ? error.message : 'it did not answer'}`;
    return (stored?.connection.tools ?? []).map(({ name }) => ({ server: entry.name, tool: name, reason }));
  }
}

/** Returns the name of a server whose process was started again, only once per restart. */
function takeRestarted(connection: OpenConnection): string[] {
  if (!connection.isRestarted) return [];
  connection.isRestarted = false;
  return [connection.live.connection.name];
}
