// `npm run simulate [part of a name]`: runs the limiter's code on many instances with one owner, in virtual time, over
// a store with the latency and the contention of one Firestore document. Prints the table, and writes RESULTS.md when
// it ran whole.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Row, SCENARIOS, simulate } from './simulate.ts';

const HEADER = [
  ['scenario', 'limit a minute', 'p50 ms', 'p99 ms', 'p99.9 ms', 'admitted', 'refused', 'unavailable'],
  ['operations a call', 'commits/s', 'lost/s', 'held, mean', 'held, most'],
].flat();

const filter = process.argv[2];
const rows: Row[] = [];
for (const scenario of SCENARIOS) {
  if (filter !== undefined && !scenario.name.includes(filter)) continue;
  const startMs = performance.now();
  const row = await simulate(scenario);
  rows.push(row);
  console.log(toLine(row), `${((performance.now() - startMs) / 1_000).toFixed(1)} s`);
}
if (filter === undefined) writeFileSync(join(import.meta.dirname, 'RESULTS.md'), toPage(rows));

function toLine(row: Row): string {
  const percent = (part: number): string => `${(part * 100).toFixed(2)} %`;
  const cells = [
    row.name,
    row.limit.toLocaleString('en'),
    row.p50Ms.toFixed(1),
    row.p99Ms.toFixed(1),
    row.p999Ms.toFixed(1),
    row.admitted.toLocaleString('en'),
    row.refused.toLocaleString('en'),
    row.unavailable.toLocaleString('en'),
    row.operationsPerCall.toFixed(3),
    row.commitsPerSecond.toFixed(1),
    row.lostPerSecond.toFixed(1),
    percent(row.heldMean),
    percent(row.heldMost),
  ];
  return `| ${cells.join(' | ')} |`;
}

function toPage(all: readonly Row[]): string {
  return `# The limiter, simulated

Written by \`npm run simulate\`. One owner whose calls arrive at random times on several instances, for 30 s of virtual
time with the end of a minute in their middle, after 6 s of warm-up. The code is that of the limiter; the store is a
model: a round trip of 10 to 30 ms, and commits of one document one after the other, 20 ms each (at most 50 a second),
2 ms for one whose precondition fails. It is not Firestore itself; what one document bears in the cloud is not known
here.

*Even*: each instance gets the same part of the calls. *Uneven*: the second half of the first, the third a third of it,
and so on. *Operations* are documents read and commits, the lost ones too. *Held* is the part of the limit that is in
blocks, as of the last commit of their holders.

| ${HEADER.join(' | ')} |
|---|${HEADER.slice(1)
    .map(() => '---:')
    .join('|')}|
${all.map(toLine).join('\n')}

20 instances hold by blocks alone: most calls wait for no store. 100 instances do not: 2 % of the limit in 100 parts
lasts 1.5 s, so the document would have to bear 67 commits a second, and optimistic commits over a round trip of 20 ms
bear about 33 of one document. There the calls wait: most of them less than half a second, some for several seconds, and
nearly all are admitted in the end. With 500 instances most calls wait for many seconds, and some are answered
\`unavailable\`. More calls a second cost nothing, more instances do. So the next lever is fewer holders: the calls of one
owner on fewer instances.
`;
}
