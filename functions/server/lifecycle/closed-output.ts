// Ignores write errors of stdout and stderr after their reader has ended (`npm start | head -1`) or the terminal was
// closed. Without a listener, a failed write would end the process.

/** Call it once, before anything is written. */
export function surviveClosedOutput(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
}
