// Removes white space around the values of environment variables: files from Windows and secrets piped by `echo` end
// with a CR or a newline.

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Trims every value in place, because the SDKs of Google and others read `process.env` directly. Returns its argument.
 */
export function trimEnvironment<Env extends Record<string, string | undefined>>(env: Env): Env {
  for (const [name, value] of Object.entries(env)) {
    const trimmed = value?.trim();
    if (trimmed !== undefined && trimmed !== value) Object.assign(env, { [name]: trimmed });
  }
  return env;
}
