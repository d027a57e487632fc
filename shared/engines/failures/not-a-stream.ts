// The error of an answer that is no stream of events of the provider's API.
/** A body with status 200 that contains no event, or events of another API. */
export class NotAStream extends Error {
  /** The start of the body, as text. */
  readonly sample: string;
  /** Its content type, or a description of its form. */
  readonly contentType: string;

  constructor(sample: string, contentType: string) {
    super('the body holds no event');
    this.name = 'NotAStream';
    this.sample = sample;
    this.contentType = contentType;
  }
}
