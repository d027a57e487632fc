// The environment as it was meant: files written on Windows and secrets piped by `echo` leave a CR or a newline at the
// end of a value.

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Takes white space off both ends of every value, in place: the SDKs of Google and others read `process.env`
 * themselves. Returns its argument.
 */
export function trimEnvironment<Env extends Record<string, string | undefined>>(env: Env): Env {
  for (const [name, value] of Object.entries(env)) {
    const trimmed = value?.trim();
    if (trimmed !== undefined && trimmed !== value) Object.assign(env, { [name]: trimmed });
  }
  return env;
}
