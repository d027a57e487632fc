/** A mistake in the command line. The message is for people. */
export class UsageError extends Error {}
