// The error for a response that is not an event stream of the provider's API.
/** Thrown for a body with status 200 that contains no event, or events of another API. */
export class NotAStream extends Error {
  /** The start of the body, as text. */
  readonly sample: string;
  /** Its content type, or a description of its form. */
  readonly contentType: string;

  constructor(sample: string, contentType: string) {
    super('the body contains no event');
    this.name = 'NotAStream';
    this.sample = sample;
    this.contentType = contentType;
  }
}
