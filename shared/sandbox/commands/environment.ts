// Decides which environment variables a caller may set for a command. Rejected are variables that make a program load
// or run other code first. That code could not leave the sandbox, but it would turn a harmless command into another
// one.
import type { Issue } from '../../errors.ts';

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const VARIABLES_MAX = 64;
export const VALUE_BYTES_MAX = 32 << 10;

/** Variables of git set options and programs to run, except those that name the author. */
const ALLOWED = /^GIT_(AUTHOR|COMMITTER)_(NAME|EMAIL|DATE)$/;
const REFUSED_PREFIXES = ['LD_', 'DYLD_', 'GIT_', 'BASH_', 'MALLOC_', 'NPM_CONFIG_', 'npm_config_', 'GLIBC_', '_JAVA_'];
const REFUSED = new Set([
  ...['ENV', 'IFS', 'PS4', 'SHELLOPTS', 'BASHOPTS', 'PROMPT_COMMAND', 'ZDOTDIR'],
  ...['NODE_OPTIONS', 'NODE_PATH', 'NODE_REPL_EXTERNAL_MODULE'],
  ...['PYTHONSTARTUP', 'PYTHONPATH', 'PYTHONHOME', 'PYTHONINSPECT', 'PYTHONUSERBASE', 'PYTHONBREAKPOINT'],
  ...['PERL5OPT', 'PERL5LIB', 'PERL5DB', 'PERLLIB', 'RUBYOPT', 'RUBYLIB', 'LUA_INIT', 'PHPRC'],
  ...['JAVA_TOOL_OPTIONS', 'JDK_JAVA_OPTIONS', 'CLASSPATH', 'DOTNET_STARTUP_HOOKS'],
  ...[
    'GCONV_PATH',
    'GETCONF_DIR',
    'LOCPATH',
    'NLSPATH',
    'HOSTALIASES',
    'RES_OPTIONS',
    'LOCALDOMAIN',
    'RESOLV_HOST_CONF',
  ],
  ...['LESSOPEN', 'LESSCLOSE', 'PAGER', 'MANPAGER', 'EDITOR', 'VISUAL', 'BROWSER', 'SSH_ASKPASS'],
]);

/**
 * Checks a caller's environment. Returns one issue per invalid variable, with a path below `env` and without the value.
 */
export function checkEnvironment(env: Readonly<Record<string, string>>): Issue[] {
  const entries = Object.entries(env);
  if (entries.length > VARIABLES_MAX)
    return [{ path: 'env', message: `must not have more than ${VARIABLES_MAX} variables` }];
  return entries.flatMap(([name, value]) => {
    const message = findProblem(name, value);
    return message === undefined ? [] : [{ path: `env.${name.slice(0, 128)}`, message }];
  });
}

function findProblem(name: string, value: string): string | undefined {
  if (!NAME.test(name)) return 'is not the name of a variable';
  if (REFUSED.has(name) || (REFUSED_PREFIXES.some((prefix) => name.startsWith(prefix)) && !ALLOWED.test(name)))
    return 'may not be set: it changes what programs load or run';
  if (value.includes('\0')) return 'must not contain NUL';
  if (Buffer.byteLength(value) > VALUE_BYTES_MAX) return `must not be longer than ${VALUE_BYTES_MAX} bytes`;
  return undefined;
}
