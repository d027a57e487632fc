// The journal and the audit of counts: a violation of a guarantee is found. In memory, without processes.
import { expect, it } from 'vitest';
import type { EventBody } from '../../shared/turn-events.ts';
import { auditWindows } from './audit-counts.ts';
import { createChecks, type Guarantee } from './guarantees.ts';
import { createJournal, type Journal, type Session } from './journal.ts';
import { createPrompt, parsePrompt } from './prompts.ts';

const delta = (text: string): EventBody => ({ AgentMessageDelta: { delta: text } });
const aborted: EventBody = { TurnAborted: { turn_id: 't', reason: 'interrupted' } };
const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
const complete: EventBody = { TaskComplete: { turn_id: 't', usage } };
const prompt = createPrompt('n1', { chunks: 2, everyMs: 0 });

/** Records events `[seq, body, previous]` as received. */
function receive(journal: Journal, session: Session, ...events: (readonly [number, EventBody, number])[]): void {
  for (const [seq, event, previous] of events) {
    journal.recordEvent(session, { session_id: 's', conversation_id: 'c', turn_id: 't', seq, event }, previous);
  }
}

const admission = { keyId: 'k', process: 'a1', reset: 60, cost: 1 };

it('the journal finds no violation in a turn that is cut, resumed, ended for a lost owner and read again', () => {
  const journal = createJournal(createChecks(() => {}));
  const session = journal.openSession('k', 's');
  receive(journal, session, [1, delta('a'), 0], [2, delta('b'), 1], [2, delta('b'), 1], [3, delta('c'), 2]);
  // The store has the events up to b: each reader gets the end as its next event.
  receive(journal, session, [4, aborted, 3], [3, aborted, 2]);
  journal.recordStatus(session, 't', 'interrupted', 'lookup');
  for (const remaining of [0, 2, 1]) journal.recordAdmission({ ...admission, limit: 3, remaining });
  auditWindows({ journal });
  expect(journal.checks.violations).toBe(0);
});

it('the journal accepts a running state whose request was sent before the end was received', () => {
  const journal = createJournal(createChecks(() => {}));
  const session = journal.openSession('key', 's');
  const requestedMs = performance.now() - 1;
  receive(journal, session, [1, complete, 0]);
  journal.recordStatus(session, 't', 'running', 'status', requestedMs);
  expect(journal.checks.violations).toBe(0);
});

const violations: readonly (readonly [string, Guarantee, (journal: Journal, session: Session) => void])[] = [
  ['a gap', 'streams', (journal, session) => receive(journal, session, [1, delta('a'), 0], [3, delta('c'), 1])],
  [
    'a gap before an end',
    'streams',
    (journal, session) => receive(journal, session, [1, delta('a'), 0], [9, aborted, 1]),
  ],
  ['a duplicate', 'streams', (journal, session) => receive(journal, session, [1, delta('a'), 0], [1, delta('a'), 1])],
  [
    'a changed event',
    'streams',
    (journal, session) => receive(journal, session, [1, delta('a'), 0], [1, delta('b'), 0]),
  ],
  ['a second end', 'ends', (journal, session) => receive(journal, session, [1, complete, 0], [2, aborted, 1])],
  [
    'an event after the end',
    'ends',
    (journal, session) => receive(journal, session, [1, complete, 0], [2, delta('a'), 1]),
  ],
  [
    'a terminal state that changes',
    'terminal',
    (journal, session) => {
      journal.recordStatus(session, 't', 'interrupted', 'status');
      receive(journal, session, [1, complete, 0]);
    },
  ],
  [
    'a terminal turn that is running again',
    'terminal',
    (journal, session) => {
      receive(journal, session, [1, complete, 0]);
      journal.recordStatus(session, 't', 'running', 'lookup');
    },
  ],
  [
    'an answer to another prompt',
    'answers',
    (journal, session) => {
      journal.recordAnswer(session, prompt, { turn_id: 't', session_id: 's', content: 'n2-0 n2-1 ' }, undefined);
    },
  ],
  [
    'a turn of another session',
    'foreign',
    (journal, session) => {
      journal.recordStatus(journal.openSession('other', 'o'), 't', 'running', 'lookup');
      journal.recordStatus(session, 't', 'running', 'lookup');
    },
  ],
  [
    'two admissions with the same remaining quota',
    'admissions',
    (journal) => {
      for (const process of ['a1', 'b1']) journal.recordAdmission({ ...admission, process, limit: 3, remaining: 1 });
    },
  ],
  [
    'a batch that takes more than its cost',
    'admissions',
    (journal) => {
      journal.recordAdmission({ ...admission, limit: 20, remaining: 5, cost: 4 });
      journal.recordAdmission({ ...admission, limit: 20, remaining: 7 });
    },
  ],
  [
    'a bucket that overflows',
    'degraded',
    (journal) => {
      for (let remaining = 10; remaining >= 0; remaining--)
        journal.recordAdmission({ ...admission, limit: 10, remaining });
    },
  ],
];

it.each(violations)('the journal finds %s', (_, guarantee, record) => {
  const journal = createJournal(createChecks(() => {}));
  record(journal, journal.openSession('k', 's'));
  auditWindows({ journal });
  expect(journal.checks.tally(guarantee).violations).toBeGreaterThan(0);
});

it('a prompt of the soak is parsed to its expected answer, and a changed one is not', () => {
  expect(parsePrompt(prompt.text)).toEqual(prompt);
  expect(prompt.expected).toBe('n1-0 n1-1 ');
  expect(parsePrompt(`${prompt.text}!`)).toBeUndefined();
});
