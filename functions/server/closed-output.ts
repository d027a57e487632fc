// A reader of the output that has gone (`npm start | head -1`) or a terminal that was closed: the log then has no
// reader, and the process serves on. Without a listener the failed write would end it.

/** For the life of the process; to be called before anything is written. */
export function surviveClosedOutput(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
}
