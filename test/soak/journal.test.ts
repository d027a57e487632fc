// The auditor itself: a run that breaks a guarantee must not pass. Pure, in memory.
import { expect, it } from 'vitest';
import type { EventBody } from '../../shared/turn-events.ts';
import { auditWindows } from './audit-counts.ts';
import { createChecks, type Guarantee } from './guarantees.ts';
import { createJournal, type Journal, type Session } from './journal.ts';
import { createAsk, readAsk } from './prompts.ts';

const delta = (text: string): EventBody => ({ AgentMessageDelta: { delta: text } });
const aborted: EventBody = { TurnAborted: { turn_id: 't', reason: 'interrupted' } };
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const complete: EventBody = { TaskComplete: { turn_id: 't', usage } };
const ask = createAsk('n1', { chunks: 2, everyMs: 0 });

/** Tells the journal of events `[seq, body, previous]`. */
function tell(journal: Journal, session: Session, ...events: (readonly [number, EventBody, number])[]): void {
  for (const [seq, event, previous] of events) {
    journal.event(session, { session_id: 's', conversation_id: 'c', turn_id: 't', seq, event }, previous);
  }
}

const admission = { keyId: 'k', process: 'a1', reset: 60, cost: 1 };

it('finds nothing wrong with a turn that was cut, resumed, ended for its owner and looked at again', () => {
  const journal = createJournal(createChecks(() => {}));
  const session = journal.open('k', 's');
  tell(journal, session, [1, delta('a'), 0], [2, delta('b'), 1], [2, delta('b'), 1], [3, delta('c'), 2]);
  // It was stored as far as b: the end is each reader's next event.
  tell(journal, session, [4, aborted, 3], [3, aborted, 2]);
  journal.status(session, 't', 'interrupted', 'look');
  for (const remaining of [0, 2, 1]) journal.admitted({ ...admission, limit: 3, remaining });
  auditWindows({ journal });
  expect(journal.checks.violations).toBe(0);
});

it('lets an answer say running that was asked for before the end was shown', () => {
  const journal = createJournal(createChecks(() => {}));
  const session = journal.open('key', 's');
  const askedMs = performance.now() - 1;
  tell(journal, session, [1, complete, 0]);
  journal.status(session, 't', 'running', 'status', askedMs);
  expect(journal.checks.violations).toBe(0);
});

const broken: readonly (readonly [string, Guarantee, (journal: Journal, session: Session) => void])[] = [
  ['a gap', 'streams', (journal, session) => tell(journal, session, [1, delta('a'), 0], [3, delta('c'), 1])],
  ['a gap before an end', 'streams', (journal, session) => tell(journal, session, [1, delta('a'), 0], [9, aborted, 1])],
  ['a duplicate', 'streams', (journal, session) => tell(journal, session, [1, delta('a'), 0], [1, delta('a'), 1])],
  ['a changed event', 'streams', (journal, session) => tell(journal, session, [1, delta('a'), 0], [1, delta('b'), 0])],
  ['a second end', 'ends', (journal, session) => tell(journal, session, [1, complete, 0], [2, aborted, 1])],
  [
    'an event after the end',
    'ends',
    (journal, session) => tell(journal, session, [1, complete, 0], [2, delta('a'), 1]),
  ],
  [
    'a terminal state that changes',
    'terminal',
    (journal, session) => {
      journal.status(session, 't', 'interrupted', 'status');
      tell(journal, session, [1, complete, 0]);
    },
  ],
  [
    'an ended turn that runs again',
    'terminal',
    (journal, session) => {
      tell(journal, session, [1, complete, 0]);
      journal.status(session, 't', 'running', 'look');
    },
  ],
  [
    'an answer to something else',
    'answers',
    (journal, session) => {
      journal.answer(session, ask, { turn_id: 't', session_id: 's', content: 'n2-0 n2-1 ' }, undefined);
    },
  ],
  [
    'a turn of another session',
    'foreign',
    (journal, session) => {
      journal.status(journal.open('other', 'o'), 't', 'running', 'look');
      journal.status(session, 't', 'running', 'look');
    },
  ],
  [
    'a place in a window given twice',
    'admissions',
    (journal) => {
      for (const process of ['a1', 'b1']) journal.admitted({ ...admission, process, limit: 3, remaining: 1 });
    },
  ],
  [
    'a batch that takes more than its places',
    'admissions',
    (journal) => {
      journal.admitted({ ...admission, limit: 20, remaining: 5, cost: 4 });
      journal.admitted({ ...admission, limit: 20, remaining: 7 });
    },
  ],
  [
    'a bucket that overflows',
    'degraded',
    (journal) => {
      for (let remaining = 10; remaining >= 0; remaining--) journal.admitted({ ...admission, limit: 10, remaining });
    },
  ],
];

it.each(broken)('finds %s', (_, guarantee, play) => {
  const journal = createJournal(createChecks(() => {}));
  play(journal, journal.open('k', 's'));
  auditWindows({ journal });
  expect(journal.checks.tally(guarantee).violations).toBeGreaterThan(0);
});

it('knows the answer of every prompt it has made, and of no other', () => {
  expect(readAsk(ask.prompt)).toEqual(ask);
  expect(ask.expected).toBe('n1-0 n1-1 ');
  expect(readAsk(`${ask.prompt}!`)).toBeUndefined();
});
