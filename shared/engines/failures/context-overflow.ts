// The error of a turn that does not fit into its model's context. Engines handle it by trimming; the caller gets it
// only when the prompt alone is too long, or when a part of the answer has been sent already.
import { RpcError } from '../../errors.ts';

export class ContextOverflow extends RpcError {
  /** The limit that the provider's message contains. */
  readonly limitTokens: number | undefined;
  readonly #providerMessage: string;

  constructor({
    label,
    data,
    providerMessage,
    limitTokens,
  }: {
    /** Label of the provider. */
    readonly label: string;
    readonly data: Readonly<Record<string, unknown>>;
    /** '' if there is none. */
    readonly providerMessage: string;
    readonly limitTokens: number | undefined;
  }) {
    const limit = limitTokens === undefined ? '' : `, which takes at most ${limitTokens} tokens`;
    const what = 'The prompt, without any earlier message, does not fit into the context of the model';
    const advice = 'Send a shorter prompt in the same session';
    super('upstream_error', {
      message: `${what}${limit}${providerMessage === '' ? '' : ` (${label}: ${providerMessage})`}. ${advice}`,
      data: { ...data, detail: 'context_overflow', ...(limitTokens !== undefined && { limit_tokens: limitTokens }) },
      retryable: false,
    });
    this.limitTokens = limitTokens;
    this.#providerMessage = providerMessage === '' ? '' : ` (${label}: ${providerMessage})`;
  }

  /** The error if a part of the answer was already sent: the call is then not repeated with fewer messages. */
  inAnswer(): RpcError {
    const { reason, data, retryable, cause } = this;
    const message = `The context of the model was full before its answer was complete${this.#providerMessage}`;
    return new RpcError(reason, { message, data, retryable, cause });
  }
}
