// Records what the model provider has received: which messages of which sessions, and how each call ended. Checks at
// once that a request contains no message that was dropped, and none of another session; a session that was erased or
// has expired is another one.
import type { SeenRequest } from '../../support/fakes/model-provider/model-provider.ts';
import { countTokens } from '../../support/fakes/model-provider/model-provider-wire.ts';
import type { Journal } from './journal.ts';
import type { Session } from './journal-records.ts';
import { PROMPT_MARK, type ProviderFault } from './prompts.ts';

/** One call of a model for a prompt. */
export interface ProviderCall {
  readonly model: string;
  readonly inputTokens: number;
  readonly fault: ProviderFault | undefined;
  /** The fault comes after the answer has begun. */
  readonly isBegun: boolean;
}

export interface ProviderLog {
  record(nonce: string, request: SeenRequest, outcome: Pick<ProviderCall, 'fault' | 'isBegun'>): void;
  /** The calls for a prompt, in the order in which they arrived. */
  callsOf(nonce: string): readonly ProviderCall[];
}

/** The messages of one session as the last request had them, and those that a later request no longer had. */
interface Branch {
  messages: readonly string[];
  readonly dropped: Set<string>;
}

/** A prompt, or the beginning of an answer. */
const MESSAGE = new RegExp(`(${PROMPT_MARK}) (\\w+) chunks|(\\w+)-0x* `, 'g');

export function createProviderLog(journal: Journal): ProviderLog {
  const calls = new Map<string, ProviderCall[]>();
  const branches = new Map<Session, Branch>();

  function checkMessages(nonce: string, { body, model }: SeenRequest): void {
    const { checks } = journal;
    const prompt = journal.prompts.get(nonce);
    if (prompt === undefined) return;
    const { session } = prompt;
    const branch = branches.get(session) ?? { messages: [], dropped: new Set() };
    branches.set(session, branch);
    // A prompt that is tried again may be a message once more, and have another answer.
    for (const message of [`p ${nonce}`, `a ${nonce}`]) branch.dropped.delete(message);
    const before = toMessages(body).filter((message) => nonceOf(message) !== nonce);
    for (const message of before) {
      const earlier = journal.prompts.get(nonceOf(message));
      const detail = (what: string) => (): string => `${nonce} of ${session.id} to ${model}: ${message} ${what}`;
      checks.check('foreign', earlier !== undefined && isOf(session, earlier.session), detail('of another session'));
      checks.check('dropped', !branch.dropped.has(message), detail('was dropped'));
      const seq = message.startsWith('a') ? earlier?.answerSeq : undefined;
      const isAfter = prompt.afterSeq !== undefined && seq !== undefined && seq > prompt.afterSeq;
      // The numbers are those of its own session.
      const isBeyond = isAfter && earlier?.session === session;
      checks.check('dropped', !isBeyond, detail(`is message ${seq}, sent after ${prompt.afterSeq}`));
    }
    const sent = new Set(before);
    for (const message of branch.messages) {
      if (!sent.has(message) && nonceOf(message) !== nonce) branch.dropped.add(message);
    }
    branch.messages = [...before, `p ${nonce}`, `a ${nonce}`];
  }

  return {
    record(nonce, request, outcome) {
      checkMessages(nonce, request);
      const own = calls.get(nonce) ?? [];
      calls.set(nonce, own);
      own.push({ model: request.model, inputTokens: countTokens(request.prompt), ...outcome });
    },
    callsOf: (nonce) => calls.get(nonce) ?? [],
  };
}

function toMessages(body: unknown): string[] {
  return Array.from(JSON.stringify(body).matchAll(MESSAGE), ([, mark, prompt, answer]) =>
    mark === undefined ? `a ${answer}` : `p ${prompt}`,
  );
}

function nonceOf(message: string): string {
  return message.slice(2);
}

/** Whether a session may contain the messages of another: it is the same, or a copy. */
function isOf(session: Session | undefined, other: Session): boolean {
  return session !== undefined && (session === other || isOf(session.forkOf, other));
}
