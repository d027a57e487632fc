// The journal and the audit of counts find every violation of a guarantee. The tests run in memory, without processes.
import { expect, it } from 'vitest';
import type { EventBody } from '../../shared/turn-events.ts';
import type { SeenRequest } from '../support/fakes/model-provider/model-provider.ts';
import { auditWindows } from './audit/audit-counts.ts';
import { createChecks, type Guarantee } from './guarantees.ts';
import { checkAnswer, checkFailure } from './journal/answers.ts';
import { createJournal, type Journal } from './journal/journal.ts';
import type { Session } from './journal/journal-records.ts';
import { createPrompt, type Prompt, parsePrompt } from './journal/prompts.ts';
import { createProviderLog } from './journal/provider-log.ts';

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

it('the journal counts the calls of a window whose calls may be taken in blocks', () => {
  const journal = createJournal(createChecks(() => {}));
  // Two instances return the same `remaining`.
  for (const process of ['a1', 'b1']) journal.recordAdmission({ ...admission, process, limit: 1_000, remaining: 9 });
  auditWindows({ journal });
  expect(journal.checks.violations).toBe(0);
  journal.recordAdmission({ ...admission, limit: 1_000, remaining: 9, cost: 999 });
  auditWindows({ journal });
  expect(journal.checks.tally('admissions').violations).toBe(1);
});

const shape = { chunks: 1, everyMs: 0 };
const whole = { fault: undefined, isBegun: false } as const;

/** A request as the provider receives it: earlier messages and the prompt. */
function requestOf(before: readonly string[], { text }: Prompt, model = 'claude-sonnet-4-5'): SeenRequest {
  return { body: { messages: [...before, text] }, prompt: text, model } as unknown as SeenRequest;
}

const requests: readonly (readonly [string, Guarantee | undefined, (journal: Journal, send: Send) => void])[] = [
  [
    'nothing in a conversation that goes on',
    undefined,
    (_, send) => {
      const first = send('k1n1', []);
      const second = send('k1n2', first);
      send('k1n3', second);
    },
  ],
  [
    'nothing in an edit that is followed by the rest, and tried again',
    undefined,
    (_, send) => {
      const first = send('k1n1', []);
      send('k1n2', first);
      send('k1n3', first, 2);
      send('k1n3', first, 2);
    },
  ],
  [
    'a message that comes back after an edit',
    'dropped',
    (_, send) => {
      const first = send('k1n1', []);
      const second = send('k1n2', first);
      send('k1n3', first);
      send('k1n4', second);
    },
  ],
  [
    'an answer after the message that a prompt follows',
    'dropped',
    (journal, send) => {
      const first = send('k1n1', []);
      Object.assign(journal.prompts.get('k1n1') ?? {}, { answerSeq: 2 });
      send('k1n2', first, 1);
    },
  ],
  [
    'a message of another session',
    'foreign',
    (journal, send) => {
      journal.recordPrompt(journal.openSession('k2', 'other'), createPrompt('k2n1', shape));
      send('k1n1', [createPrompt('k2n1', shape).text]);
    },
  ],
  [
    'a message that no client has sent',
    'foreign',
    (_, send) => {
      send('k1n1', [createPrompt('k1n9', shape).text]);
    },
  ],
];
type Send = (nonce: string, before: readonly string[], afterSeq?: number) => readonly string[];

it.each(requests)('the log of the provider finds %s', (_, guarantee, record) => {
  const journal = createJournal(createChecks(() => {}));
  const log = createProviderLog(journal);
  const session = journal.openSession('k1', 's');
  record(journal, (nonce, before, afterSeq) => {
    const sent = createPrompt(nonce, shape);
    journal.recordPrompt(session, sent, afterSeq);
    log.record(nonce, requestOf(before, sent), whole);
    return [...before, sent.text, sent.expected];
  });
  const found = guarantee === undefined ? 0 : journal.checks.tally(guarantee).violations;
  expect(journal.checks.violations).toBe(found);
  expect(found > 0).toBe(guarantee !== undefined);
});

it('the log of the provider allows the messages of its source in a fork', () => {
  const journal = createJournal(createChecks(() => {}));
  const log = createProviderLog(journal);
  const source = journal.openSession('k1', 's');
  const first = createPrompt('k1n1', shape);
  journal.recordPrompt(source, first);
  const fork = journal.openSession('k1', 'f', { forkOf: source, copied: [] });
  const second = createPrompt('k1n2', shape);
  journal.recordPrompt(fork, second);
  log.record(second.nonce, requestOf([first.text, first.expected], second), whole);
  expect(journal.checks.violations).toBe(0);
});

it('an answer names the model that gave it and what it has billed; a failed model is followed by a fallback', () => {
  const journal = createJournal(createChecks(() => {}));
  const log = createProviderLog(journal);
  const sent = { ...createPrompt('k1n1', shape), params: { fallbacks: ['openai/gpt-5'] } };
  journal.recordPrompt(journal.openSession('k1', 's'), sent);
  log.record(sent.nonce, requestOf([], sent), { fault: '500', isBegun: false });
  log.record(sent.nonce, requestOf([], sent, 'gpt-5'), whole);
  const tokens = { input_tokens: Math.ceil(sent.text.length / 4), output_tokens: 2 };
  checkAnswer(journal, log, sent, { model: 'openai/gpt-5', usage: tokens });
  expect(journal.checks.violations).toBe(0);
  checkAnswer(journal, log, sent, { model: 'anthropic/claude-sonnet-4-5', usage: tokens });
  expect(journal.checks.tally('fallbacks').violations).toBe(1);
  checkAnswer(journal, log, sent, { model: 'openai/gpt-5', usage: { ...tokens, output_tokens: 3 } });
  expect(journal.checks.tally('usage').violations).toBe(2);
  checkFailure(journal, log, sent, { data: { reason: 'upstream_error' } });
  expect(journal.checks.tally('fallbacks').violations).toBe(2);
  log.record(sent.nonce, requestOf([], sent), { fault: 'cut', isBegun: true });
  checkFailure(journal, log, sent, { data: { reason: 'upstream_error' } });
  expect(journal.checks.tally('fallbacks').violations).toBe(2);
});

it('a prompt of the soak is parsed to its expected answer, and a changed one is not', () => {
  expect(parsePrompt(prompt.text)).toEqual(prompt);
  expect(prompt.expected).toBe('n1-0 n1-1 ');
  expect(parsePrompt(`${prompt.text}!`)).toBeUndefined();
});
